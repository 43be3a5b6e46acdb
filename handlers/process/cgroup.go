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

// CgroupRoot finds the directory in which a cgroup v2 can be made for each
// command: the cgroup of this process, if it is writable and the kernel has
// cgroup.kill (Linux 5.14). The error says why there is none; commands then run
// without.
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

// cgroupDir joins where the cgroup v2 hierarchy is mounted with this process's
// place in it. See cgroups(7) and the fields of /proc/PID/mountinfo in proc(5).
func cgroupDir(mountinfo, cgroup string) (string, error) {
	place := ""
	for line := range strings.Lines(cgroup) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			place = p
		}
	}
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if !ok || len(f) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		// Only the part below f[3] is mounted, as in a container.
		rel, err := filepath.Rel(f[3], place)
		if place == "" || err != nil || strings.HasPrefix(rel, "..") {
			return "", fmt.Errorf("this process's cgroup %q is not below the mounted %q", place, f[3])
		}
		return filepath.Join(f[4], rel), nil
	}
	return "", errors.New("no cgroup v2 is mounted")
}

// cgroupPrefix begins the name of every cgroup made here, so that no other is ever
// killed.
const cgroupPrefix = "tasker-"

// makeCgroup makes a cgroup with a name of its own below root.
func makeCgroup(root string) (string, error) {
	dir := filepath.Join(root, cgroupPrefix+strings.ToLower(rand.Text()[:12]))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("make a cgroup: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "cgroup.kill"), os.O_WRONLY, 0)
	if err != nil {
		return "", errors.Join(fmt.Errorf("make a cgroup: %w", err), removeCgroup(dir))
	}
	return dir, f.Close()
}

// removeCgroup removes a cgroup without processes and those below it; one that
// is gone already is no error.
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
	if rm := os.Remove(dir); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		return errors.Join(err, rm)
	}
	return nil
}

// killCgroup kills every process in a cgroup and below it.
func killCgroup(dir string) {
	if dir != "" {
		// It fails where the cgroup is gone, which is what is wanted.
		_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	}
}

// populated says whether a cgroup or one below it has a process.
func populated(dir string) bool {
	if dir == "" {
		return false
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	return err == nil && bytes.Contains(b, []byte("populated 1"))
}
