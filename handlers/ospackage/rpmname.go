package ospackage

import (
	"context"
	"fmt"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers/argument"
	"github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
)

// splitRPM splits a name like bash.x86_64. The architecture is empty if there is none.
func splitRPM(name string) (short, arch string) {
	i := strings.LastIndexByte(name, '.')
	if i <= 0 || argument.RPMArch().Check(name[i+1:]) != nil {
		return name, ""
	}
	return name[:i], name[i+1:]
}

// rpmName returns a name without the server's own architecture.
func rpmName(short, arch, native string) string {
	if arch == native || arch == "noarch" {
		return short
	}
	return short + "." + arch
}

// rpmNative returns the architecture of the server.
func rpmNative(ctx context.Context) (string, error) {
	lines, err := pkgmanager.Query(ctx, []string{"rpm", "--eval", "%{_arch}"})
	if err != nil || len(lines) != 1 {
		return "", fmt.Errorf("find the architecture of this server: rpm printed %q: %w", lines, err)
	}
	return lines[0], nil
}
