set -e

# An upgrade stops nothing: the new version restarts the service.
case ${1:-} in
upgrade | deconfigure | failed-upgrade | [1-9]) exit 0 ;;
esac

command -v systemctl >/dev/null || exit 0
if [ -d /run/systemd/system ]; then
	systemctl stop "$program.service"
fi
# dpkg keeps the service enabled until the purge, as it keeps the configuration.
if [ "${1:-}" != remove ]; then
	systemctl disable --quiet "$program.service"
fi
