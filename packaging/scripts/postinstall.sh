set -e

# dpkg passes the action, rpm the number of installed versions. apk and pacman have a
# script for each step, which sets step.
case ${1:-} in
configure) if [ -z "${2:-}" ]; then step=install; else step=upgrade; fi ;;
abort-*) exit 0 ;;
1) step=install ;;
[2-9]) step=upgrade ;;
esac

config=/etc/$program/config.yaml

if [ "$user" != root ]; then
	if ! getent passwd "$user" >/dev/null; then
		if command -v useradd >/dev/null; then
			useradd --system --user-group --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$user"
		else
			addgroup -S "$user"
			adduser -S -D -H -h "$state" -s /sbin/nologin -G "$user" "$user"
		fi
	fi
	chown "$user:$user" "$state"
	# The service may read the file and not write it. Any other group is the administrator's choice.
	if [ "$(stat -c %G "$config")" = root ]; then
		chgrp "$user" "$config"
	fi
fi

# configured reports whether the program can start; it prints the reason if not.
configured() (
	if [ -r "/etc/$program/environment" ]; then
		while IFS= read -r line; do
			case $line in
			[A-Za-z_]*=\"*\" | [A-Za-z_]*=\'*\')
				value=${line#*=?}
				export "${line%%=*}=${value%?}"
				;;
			[A-Za-z_]*=*) export "${line?}" ;;
			esac
		done <"/etc/$program/environment"
	fi
	{ "/usr/bin/$program" check-config --config "$config" >/dev/null; } 2>&1
)

# Without a running systemd (a chroot, a container) the service is only enabled.
running() { [ -d /run/systemd/system ]; }

# invoke respects Debian's policy-rc.d.
invoke() {
	if command -v deb-systemd-invoke >/dev/null; then
		deb-systemd-invoke "$@"
	else
		systemctl "$@"
	fi || echo "$program: could not $1; see: journalctl --unit=$program" >&2
}

command -v systemctl >/dev/null || exit 0
if running; then systemctl daemon-reload; fi
case $step in
install)
	if reason=$(configured); then
		systemctl enable --quiet "$program.service"
		if running; then invoke start "$program.service"; fi
	else
		printf '%s\n' "$reason" "$program is installed but not started, because it is not configured yet." >&2
		if [ "$program" = tasker-agent ]; then
			echo "Enrol this server to start it: tasker-agent enrol --server URL --token TOKEN" >&2
		else
			echo "Edit $config, then: systemctl enable --now $program" >&2
		fi
	fi
	;;
upgrade)
	# A disabled service stays disabled, and runs afterwards only if it ran before.
	if running && { systemctl is-active --quiet "$program.service" || systemctl is-enabled --quiet "$program.service"; }; then
		# A service that does not start again would be lost, an agent for good.
		if reason=$(configured); then
			invoke restart "$program.service"
		else
			printf '%s\n' "$reason" "$program was not restarted and still runs the earlier version, because this version refuses its configuration." \
				"Correct $config, then: systemctl restart $program" >&2
		fi
	fi
	;;
esac
