package hosts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// The versions that are built. Fleets use the newer one by default.
const older, newer = "1.0.0", "1.1.0"

// built is the directory of the packages, which are built once for all tests.
var built string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Getenv("TASKER_TEST_HOSTS") != "1" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "tasker-hosts-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	built = dir
	for _, version := range []string{older, newer} {
		build := exec.Command("go", "-C", "../../packaging", "run", "./cmd/build", //nolint:gosec // the versions are above
			"-out", filepath.Join(dir, version), "-version", version, "-architectures", runtime.GOARCH, "-formats", "deb,rpm")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the packages: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}
