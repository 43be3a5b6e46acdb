# $1 is held no more meanwhile, $2 is held when all went well, $3 when it did not; the
# rest are arguments of apt-get install: with a - after it a package is removed.
release=$1 hold=$2 held=$3
shift 3

# The lock of dpkg is free when this is started; it may be taken before apt-get has it.
apt() {
	apt-get -q -y -o DPkg::Lock::Timeout=60 -o Dpkg::Use-Pty=0 \
		-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# shellcheck disable=SC2086 # they are lists of names
mark() { if [ -n "$2" ]; then apt-mark "$1" $2; fi; }

# What was interrupted earlier.
if [ -n "$(ls -A /var/lib/dpkg/updates)" ]; then
	dpkg --force-confdef --force-confold --configure -a || true
fi
mark unhold "$release"
code=0
if [ $# -gt 0 ]; then
	apt --allow-downgrades install "$@" || code=$?
fi
if [ "$code" = 0 ]; then mark hold "$hold"; else mark hold "$held" || true; fi
exit "$code"
