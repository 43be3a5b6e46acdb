# $1 is the package, $2 is "version", "file" or "newest", and $3 the version or file.
apt() {
	apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 \
		-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# update_lists updates the package lists. It fails if a list cannot be fetched, and tries
# again, because another process may be updating them.
update_lists() {
	for pause in 5 10 0; do
		if apt -o APT::Update::Error-Mode=any update; then return 0; fi
		sleep "$pause"
	done
	return 1
}

# Complete an interrupted transaction. If dpkg is only busy, apt-get waits for it.
if [ -n "$(ls -A /var/lib/dpkg/updates)" ]; then
	dpkg --force-confdef --force-confold --configure -a || true
fi

case $2 in
file) apt --allow-downgrades install "$3" ;;
version)
	update_lists || echo "not all lists of packages could be fetched; the old ones are used"
	case $3 in
	*-*) apt --allow-downgrades install "$1=$3+" ;; # + means install, and ends the version
	*) apt --allow-downgrades install "$1=$3-*" ;;
	esac
	;;
newest)
	update_lists
	apt --only-upgrade install "$1"
	;;
esac
