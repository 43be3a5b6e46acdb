package command

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers"
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// refusedEnv returns patterns of the variables with which a caller could make a permitted
// program load or run something else. A trailing * matches any rest. The patterns follow
// sudo's env_delete and glibc's list for set-user-ID programs, and add today's interpreters,
// editors and pagers.
func refusedEnv() []string {
	return []string{
		"TASKER_*", "LD_*", "_RLD*", "DYLD_*", "GLIBC_TUNABLES", "GCONV_PATH", "GETCONF_DIR", "LOCPATH",
		"NLSPATH", "PATH_LOCALE", "NIS_PATH", "MALLOC_*", "RESOLV_HOST_CONF", "RES_OPTIONS", "HOSTALIASES",
		"LOCALDOMAIN", "PATH", "HOME", "SHELL", "IFS", "CDPATH", "ENV", "BASH_*", "BASHOPTS", "SHELLOPTS",
		"PS4", "PROMPT_COMMAND", "GLOBIGNORE", "FPATH", "NULLCMD", "READNULLCMD", "ZDOTDIR", "TMPPREFIX",
		"TERMINFO*", "TERMPATH", "TERMCAP", "PERL*", "PYTHON*", "RUBY*", "GEM_*", "BUNDLE_*", "NODE_*",
		"NPM_*", "npm_*", "JAVA_*", "_JAVA_*", "JDK_*", "CLASSPATH", "LUA_*", "PHP*", "GOFLAGS", "GODEBUG",
		"GIT_*", "SSH_*", "EDITOR", "VISUAL", "SUDO_*", "PAGER", "MANPAGER", "SYSTEMD_*", "LESS*", "BROWSER",
		"XDG_*", "DBUS_*", "OPENSSL_*", "APT_CONFIG", "DPKG_*", "MAKEFLAGS", "CC", "CXX", "TAR_OPTIONS",
		"RSYNC_*", "CURL_HOME", "WGETRC", "KUBECONFIG", "DOCKER_*", "PKCS11_*", "NOTIFY_SOCKET", "LISTEN_*",
	}
}

// checkEnv rejects variables that a payload must not set.
func checkEnv(env map[string]string) error {
	refused := refusedEnv()
	for _, name := range slices.Sorted(maps.Keys(env)) {
		switch {
		case !envName.MatchString(name):
			return handlers.Reject("payload.env: %q is not a variable name: use letters, digits and '_'", name)
		case strings.ContainsRune(env[name], 0):
			return handlers.Reject("payload.env.%s: contains a NUL", name)
		case strings.HasPrefix(env[name], "()"):
			return handlers.Reject("payload.env.%s: a value that begins with () can define a shell function and is refused", name)
		case slices.ContainsFunc(refused, func(pattern string) bool { return matches(pattern, name) }):
			return handlers.Reject("payload.env.%s: is refused: it can change what the program loads or runs; if you need it, run a script that sets it", name)
		}
	}
	return nil
}

func matches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}
