set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
if [ "${1:-}" = purge ]; then
	rm -rf "${state:?}" "/etc/${program:?}" "/etc/systemd/system/$program.service.d"
	rm -f "/etc/systemd/system/multi-user.target.wants/$program.service"
fi
