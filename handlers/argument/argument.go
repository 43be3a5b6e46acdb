// Package argument checks the arguments of the tools that handlers run: apt, dpkg, dnf, rpm
// and systemd. It accepts only exact names, because these tools read some arguments as
// options, patterns, groups or commands. The handlers ospackage, upgrade and
// service use it.
package argument

import (
	"regexp"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// maxLength bounds an argument in bytes, as systemd bounds the name of a unit.
const maxLength = 255

// Kind is what an argument stands for.
type Kind struct {
	name, example string
	syntax        *regexp.Regexp
}

// Check returns nil for a valid argument, and a *handlers.RejectError for every other text.
func (k Kind) Check(text string) error {
	if len(text) <= maxLength && k.syntax.MatchString(text) {
		return nil
	}
	return handlers.Reject("%q is not %s, like %s", text, k.name, k.example)
}

var (
	debPackage = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*$`)
	debVersion = regexp.MustCompile(`^([0-9]+:)?[0-9A-Za-z][0-9A-Za-z.+~-]*$`)
	debArch    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	rpmPackage = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._+-]*$`)
	rpmVersion = regexp.MustCompile(`^([0-9]+:)?[0-9A-Za-z][0-9A-Za-z._+~^]*(-[0-9A-Za-z][0-9A-Za-z._+~^]*)?$`)
	rpmArch    = regexp.MustCompile(`^(noarch|x86_64(_v[2-4])?|i[3-6]86|aarch64|armv[5-8][a-z0-9]*|ppc64(le)?|s390x?|riscv64|loongarch64)$`)
	unit       = regexp.MustCompile(`^[0-9A-Za-z:_.\\][0-9A-Za-z:_.\\@-]*\.(service|socket|timer|target|path|mount|automount|swap|slice|scope|device)$`)
)

// DebPackage is the name of a package of Debian without its architecture. apt reads other
// names as regular expressions, globs, tasks, releases and changes (app+, app-).
func DebPackage() Kind { return Kind{"the name of a package of Debian", "libstdc++6", debPackage} }

// DebVersion is a version of a package of Debian, with or without its epoch and revision.
func DebVersion() Kind { return Kind{"a version of a package of Debian", "1:1.2.3-1", debVersion} }

// DebArch is an architecture of Debian.
func DebArch() Kind { return Kind{"an architecture of Debian", "amd64", debArch} }

// RPMPackage is the name of an rpm package without its architecture. dnf reads other names
// as globs, groups, modules and file paths.
func RPMPackage() Kind { return Kind{"the name of an rpm package", "python3.11-pip", rpmPackage} }

// RPMVersion is a version of an rpm package, with or without its epoch and release.
func RPMVersion() Kind { return Kind{"a version of an rpm package", "1:1.2.3-1.el9", rpmVersion} }

// RPMArch is an architecture of rpm.
func RPMArch() Kind { return Kind{"an architecture of rpm", "x86_64", rpmArch} }

// Unit is the name of a unit of systemd with its suffix. systemctl and journalctl read other
// names as globs, paths and options.
func Unit() Kind { return Kind{"the name of a unit of systemd", "app@1.service", unit} }
