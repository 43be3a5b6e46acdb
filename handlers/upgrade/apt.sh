# $1 is the package, $2 "version", "file" or "newest", and $3 which.
apt() {
	apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 \
		-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# lists fetches the lists of packages; one that cannot be fetched is a failure. It is
# tried again, as somebody else may be fetching them.
lists() {
	for pause in 5 10 0; do
		if apt -o APT::Update::Error-Mode=any update; then return 0; fi
		sleep "$pause"
	done
	return 1
}

# What was interrupted earlier; if dpkg is only busy, apt-get waits for it.
if [ -n "$(ls -A /var/lib/dpkg/updates)" ]; then
	dpkg --force-confdef --force-confold --configure -a || true
fi

case $2 in
file) apt --allow-downgrades install "$3" ;;
version)
	lists || echo "not all lists of packages could be fetched; the old ones are used"
	case $3 in
	*-*) apt --allow-downgrades install "$1=$3" ;;
	*) apt --allow-downgrades install "$1=$3-*" ;;
	esac
	;;
newest)
	lists
	apt --only-upgrade install "$1"
	;;
esac
