package agentcmd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

const service = "tasker-agent.service"

// serviceInstalled reports whether systemd runs and has loaded the agent's unit.
func serviceInstalled(ctx context.Context) bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false
	}
	state, err := exec.CommandContext(ctx, "systemctl", "show", "--property=LoadState", "--value", service).Output()
	return err == nil && strings.TrimSpace(string(state)) == "loaded"
}

// startService enables and restarts the service, and returns when it is active.
func startService(ctx context.Context) error {
	for _, args := range [][]string{
		{"enable", "--quiet", service},
		{"restart", service}, // waits until the agent reports that it is ready
		{"is-active", "--quiet", service},
	} {
		out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput() //nolint:gosec // the arguments above
		if err != nil {
			return fmt.Errorf("this server is enrolled, but `systemctl %s` failed: %w: %s; `journalctl --unit=%s` may show why",
				strings.Join(args, " "), err, bytes.TrimSpace(out), service)
		}
	}
	return nil
}
