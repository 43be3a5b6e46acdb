package process

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// FindCgroupRoot returns the directory for Runner.Cgroup: the cgroup v2 of this process, if
// it is writable and the kernel has cgroup.kill (Linux 5.14). Otherwise it returns an error.
func FindCgroupRoot() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("find a cgroup v2: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("find a cgroup v2: %w", err)
	}
	root, err := cgroupDir(string(mounts), string(own))
	if err != nil {
		return "", err
	}
	probe, err := makeCgroup(root)
	if err != nil {
		return "", err
	}
	return root, removeCgroup(probe)
}

// cgroupDir returns the directory of this process's cgroup v2 from the contents of
// /proc/self/mountinfo and /proc/self/cgroup; see proc(5) and cgroups(7).
func cgroupDir(mountinfo, cgroup string) (string, error) {
	path := ""
	for line := range strings.Lines(cgroup) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			path = p
		}
	}
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if !ok || len(f) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		// In a container, only the part below f[3] is mounted.
		rel, err := filepath.Rel(f[3], path)
		if path == "" || err != nil || strings.HasPrefix(rel, "..") {
			return "", fmt.Errorf("this process's cgroup %q is not below the mounted %q", path, f[3])
		}
		return filepath.Join(f[4], rel), nil
	}
	return "", errors.New("no cgroup v2 is mounted")
}

// cgroupPrefix begins the name of every cgroup of a command. Leftovers kills no others.
const cgroupPrefix = "tasker-"

// makeCgroup creates a cgroup with a random name below root.
func makeCgroup(root string) (string, error) {
	dir := filepath.Join(root, cgroupPrefix+strings.ToLower(rand.Text()[:12]))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("create a cgroup: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "cgroup.kill"), os.O_WRONLY, 0)
	if err != nil {
		return "", errors.Join(fmt.Errorf("create a cgroup: %w", err), removeCgroup(dir))
	}
	return dir, f.Close()
}

// removeCgroup removes a cgroup without processes and the cgroups below it. A missing cgroup
// is no error.
func removeCgroup(dir string) error {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeCgroup(filepath.Join(dir, e.Name())))
		}
	}
	if removeErr := os.Remove(dir); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
		return errors.Join(err, removeErr)
	}
	return nil
}

// killCgroup kills every process in a cgroup and below it.
func killCgroup(dir string) {
	if dir != "" {
		// It fails if the cgroup was removed, and then nothing is left to kill.
		_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	}
}

// hasProcesses reports whether a cgroup or a cgroup below it has a process.
func hasProcesses(dir string) bool {
	if dir == "" {
		return false
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	return err == nil && bytes.Contains(b, []byte("populated 1"))
}
