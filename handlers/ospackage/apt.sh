# The hold of the packages in $1 is released. After a success the packages in $2 are held,
# after a failure those in $3. The other arguments are passed to apt-get install, which
# removes a package whose name ends with -.
release=$1 hold=$2 restore=$3
shift 3

# The lock of dpkg is free when the script starts, but another process can take it before
# apt-get does.
apt() {
	apt-get -q -y -o APT::Cmd::Pattern-Only=true -o DPkg::Lock::Timeout=60 -o Dpkg::Use-Pty=0 \
		-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# shellcheck disable=SC2086 # they are lists of names
mark() { if [ -n "$2" ]; then apt-mark "$1" $2; fi; }

# Complete an interrupted transaction.
if [ -n "$(ls -A /var/lib/dpkg/updates)" ]; then
	dpkg --force-confdef --force-confold --configure -a || true
fi
mark unhold "$release"
code=0
if [ $# -gt 0 ]; then
	apt --allow-downgrades install "$@" || code=$?
fi
if [ "$code" = 0 ]; then mark hold "$hold"; else mark hold "$restore" || true; fi
exit "$code"
