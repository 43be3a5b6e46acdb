package hosts

import (
	"fmt"
	"path/filepath"
)

// kind is a kind of packages, and how an operator handles them.
type kind struct {
	suffix string
	// install takes a file of any version that is not older; downgrade an older one.
	install, downgrade, remove string
	// purge is a removal of all that is left; not every kind knows it.
	purge string
	// kept is where the edited configuration of a removed agent is.
	kept string
	// prepare makes a host of Debian what the packages expect.
	prepare string
}

func deb() kind {
	return kind{
		suffix:    "deb",
		install:   "apt-get install -qq -y",
		downgrade: "apt-get install -qq -y --allow-downgrades",
		remove:    "apt-get remove -qq -y",
		purge:     "apt-get purge -qq -y",
		kept:      "/etc/tasker-agent/config.yaml",
	}
}

func rpm() kind {
	return kind{
		suffix:    "rpm",
		install:   "dnf install -y",
		downgrade: "dnf downgrade -y",
		remove:    "dnf remove -y",
		kept:      "/etc/tasker-agent/config.yaml.rpmsave",
		// What is there belongs to dpkg; rpm has to be told.
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

// file puts a package on a host and returns where it is.
func (l *lab) file(host, program, version string, k kind) string {
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

// install installs or upgrades a program on a host and returns what is said.
func (l *lab) install(host, program, version string, k kind) string {
	l.t.Helper()
	path := l.file(host, program, version, k)
	return l.sh(host, k.install+" "+path+" 2>&1; rm "+path)
}

// downgrade brings a program on a host back to an older version.
func (l *lab) downgrade(host, program, version string, k kind) {
	l.t.Helper()
	path := l.file(host, program, version, k)
	l.sh(host, k.downgrade+" "+path+" 2>&1; rm "+path)
}

// remove removes a program from a host, as its packages do.
func (l *lab) remove(host, program string, k kind) {
	l.t.Helper()
	l.sh(host, k.remove+" "+program+" 2>&1")
}
