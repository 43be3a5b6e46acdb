package hosts

import (
	"fmt"
	"path/filepath"
)

// packageFormat is a package format, and its commands.
type packageFormat struct {
	suffix string
	// install installs a file of the same or a newer version, downgrade one of an older.
	install, downgrade, remove string
	// purge removes what a removal has left; empty if the format does not support it.
	purge string
	// kept is the path of the edited configuration after a removal of the agent.
	kept string
	// prepare prepares a Debian host for the packages.
	prepare string
}

func deb() packageFormat {
	return packageFormat{
		suffix:    "deb",
		install:   "apt-get install -qq -y",
		downgrade: "apt-get install -qq -y --allow-downgrades",
		remove:    "apt-get remove -qq -y",
		purge:     "apt-get purge -qq -y",
		kept:      "/etc/tasker-agent/config.yaml",
	}
}

func rpm() packageFormat {
	return packageFormat{
		suffix:    "rpm",
		install:   "dnf install -y",
		downgrade: "dnf downgrade -y",
		remove:    "dnf remove -y",
		kept:      "/etc/tasker-agent/config.yaml.rpmsave",
		// dpkg has installed the dependencies, which rpm does not know.
		prepare: `cat >/tmp/there.spec <<-'END'
			Name: there
			Version: 1
			Release: 1
			Summary: What dpkg has installed
			License: none
			BuildArch: noarch
			Provides: shadow-utils
			%description
			What dpkg has installed.
			%files
			END
			rpmbuild --quiet -bb --define '_topdir /tmp/there' /tmp/there.spec
			rpm -i --justdb /tmp/there/RPMS/noarch/*.rpm
			rm -rf /tmp/there*`,
	}
}

// file copies a package to a host and returns its path.
func (l *lab) file(host, program, version string, k packageFormat) string {
	l.t.Helper()
	pattern := filepath.Join(built, version, fmt.Sprintf("%s[_\\-]%s-1*.%s", program, version, k.suffix))
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		l.t.Fatalf("%s names %q (%v), want one package", pattern, found, err)
	}
	path := "/tmp/" + filepath.Base(found[0])
	l.copy(host, found[0], path, "644")
	return path
}

// install installs or upgrades a program on a host and returns the output.
func (l *lab) install(host, program, version string, k packageFormat) string {
	l.t.Helper()
	path := l.file(host, program, version, k)
	return l.sh(host, k.install+" "+path+" 2>&1; rm "+path)
}

// downgrade installs an older version of a program.
func (l *lab) downgrade(host, program, version string, k packageFormat) {
	l.t.Helper()
	path := l.file(host, program, version, k)
	l.sh(host, k.downgrade+" "+path+" 2>&1; rm "+path)
}

// remove removes the package of a program from a host.
func (l *lab) remove(host, program string, k packageFormat) {
	l.t.Helper()
	l.sh(host, k.remove+" "+program+" 2>&1")
}
