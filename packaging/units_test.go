package packaging

import (
	"os/exec"
	"regexp"
	"strconv"
	"testing"
)

// The control plane can do little harm.
func TestExposure(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("left out: the exposure of the control plane's unit, which needs systemd-analyze")
	}
	out := run(t, "systemd-analyze", "security", "--offline=yes", "--no-pager", "units/tasker-controlplane.service")
	match := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
	if match == nil {
		t.Fatalf("no exposure in\n%s", out)
	}
	if exposure, err := strconv.ParseFloat(match[1], 64); err != nil || exposure > 2.0 {
		t.Errorf("the exposure is %s, want at most 2.0\n%s", match[1], out)
	}
}
