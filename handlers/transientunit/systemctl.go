package transientunit

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// standing is how systemd sees a unit; one that it does not know is not alive.
type standing struct {
	alive  bool
	cgroup string
}

func show(ctx context.Context, name string) (standing, error) {
	out, err := systemctl(ctx, "show", "--property=ActiveState,ControlGroup", name+".service")
	if err != nil {
		return standing{}, err
	}
	var s standing
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch key {
		case "ActiveState":
			s.alive = value != "inactive" && value != "failed"
		case "ControlGroup":
			s.cgroup = value
		}
	}
	return s, nil
}

// stopUnit returns when the unit is stopped. One that is gone is no error.
func stopUnit(ctx context.Context, name string) error {
	_, err := systemctl(ctx, "stop", name+".service")
	if s, showErr := show(ctx, name); showErr == nil && !s.alive {
		return nil
	}
	return err
}

// Alive lists the units that run and whose names begin with a prefix.
func (*Runner) Alive(ctx context.Context, prefix string) ([]string, error) {
	out, err := systemctl(ctx, "list-units", "--plain", "--no-legend", "--full",
		"--state=active,activating,deactivating", prefix+"*.service")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 0 {
			names = append(names, strings.TrimSuffix(f[0], ".service"))
		}
	}
	return names, nil
}

func systemctl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "systemctl", append([]string{"--no-pager", "--no-ask-password"}, args...)...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(complaint.Bytes()))
	}
	return string(out), nil
}

// populated says whether a cgroup or one below it has a process. systemd has its
// hierarchy at one of three places: cgroup v2 alone, beside v1, or v1 alone.
func populated(cgroup string) bool {
	if cgroup == "" || cgroup == "/" {
		return false
	}
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		found := false
		_ = filepath.WalkDir(filepath.Join(root, cgroup), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return nil // It has gone, with all its processes.
			}
			if e.Name() == "cgroup.procs" {
				b, err := os.ReadFile(path)
				found = found || err == nil && len(b) > 0
			}
			return nil
		})
		if found {
			return true
		}
	}
	return false
}
