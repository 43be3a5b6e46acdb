package artifact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/trust"
	"github.com/MatthiasWiesner/tasker/internal/atomicfile"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// The names in the directory of an application.
const (
	linkName      = "current"
	releasesDir   = "releases"
	ownDir        = ".tasker"
	recordsDir    = ownDir + "/releases"
	lockFile      = ownDir + "/lock"
	switchFile    = ownDir + "/switch.json"
	unpackDir     = ownDir + "/unpacking"
	newLink       = ownDir + "/current"
	removedDir    = ownDir + "/removed"
	partialSuffix = ".part"
)

// appDir is the directory of one application. All access goes through root, so that no
// link leads out of it. A nil *appDir is a directory that does not exist.
type appDir struct {
	path string
	root *os.Root
	lock *os.File
}

// pendingSwitch is the record of a switch that is not confirmed yet.
type pendingSwitch struct {
	Task    string `json:"task"`
	Attempt int    `json:"attempt"`
	// From is the last confirmed release; empty if there is none.
	From string `json:"from"`
	To   string `json:"to"`
	// Step and Failed are set while the handler switches back: the failed step and the
	// error.
	Step   string `json:"step,omitempty"`
	Failed string `json:"failed,omitempty"`
}

// failedIn reports whether the release failed in an earlier process of this call.
func (s *pendingSwitch) failedIn(call handlers.Call) bool {
	return s != nil && s.Failed != "" && s.Task == call.TaskID && s.Attempt == call.Attempt
}

// openAppDir opens a directory for reading. It returns nil if the directory does not
// exist.
func openAppDir(dir string) (*appDir, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return &appDir{path: dir, root: root}, nil
}

// lockAppDir opens a directory, creates what is missing in it, waits for the lock, and
// removes what a killed agent has left behind. It calls waiting while another
// deployment holds the lock.
func lockAppDir(ctx context.Context, dir string, waiting func()) (*appDir, error) {
	if _, err := trust.CheckDir(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory: %w", err)
	}
	d, err := openAppDir(dir)
	if err != nil {
		return nil, err
	}
	if err = d.createDirs(); err == nil {
		err = d.acquireLock(ctx, waiting)
	}
	if err == nil {
		err = d.removeAll(unpackDir, newLink, removedDir)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *appDir) createDirs() error {
	for _, sub := range []struct {
		name string
		mode fs.FileMode
	}{{".", 0}, {releasesDir, 0o755}, {ownDir, 0o700}, {recordsDir, 0o700}} {
		if err := d.root.MkdirAll(sub.name, sub.mode); err != nil {
			return fmt.Errorf("make %s: %w", d.pathOf(sub.name), err)
		}
		if err := d.checkTrust(sub.name); err != nil {
			return err
		}
	}
	return nil
}

func (d *appDir) acquireLock(ctx context.Context, waiting func()) error {
	lock, err := d.root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock %s: %w", d.path, err)
	}
	d.lock = lock
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w", d.path, err)
		}
		waiting()
		if backoff.Sleep(ctx, 200*time.Millisecond) != nil {
			return context.Cause(ctx)
		}
	}
}

// close unlocks and closes the directory.
func (d *appDir) close() {
	if d == nil {
		return
	}
	if d.lock != nil {
		// Closing alone may not unlock: a process that was just forked can hold the file
		// open a moment longer.
		_, _ = unix.Flock(int(d.lock.Fd()), unix.LOCK_UN), d.lock.Close()
	}
	_ = d.root.Close()
}

func (d *appDir) pathOf(name string) string { return filepath.Join(d.path, name) }

// checkTrust returns an error if anybody but root and the agent's user can change a
// file or directory: the agent runs programs from it.
func (d *appDir) checkTrust(name string) error {
	fi, err := d.root.Stat(name)
	if err != nil {
		return fmt.Errorf("%s: %w", d.pathOf(name), err)
	}
	return trust.CheckInfo(d.pathOf(name), fi)
}

// checkSpace returns an error if the disk has fewer free bytes than needed.
func (d *appDir) checkSpace(needed int64) error {
	dir, err := d.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return fmt.Errorf("read the free space below %s: %w", d.path, err)
	}
	free := int64(min(st.Bavail, math.MaxInt64/uint64(st.Bsize))) * st.Bsize
	if free < needed {
		return fmt.Errorf("there is not enough space below %s: %s are needed, and %s are free; free some space, for example with a smaller keep, and run the task again", d.path, formatSize(needed), formatSize(free))
	}
	return nil
}

// formatSize formats a size with its unit.
func formatSize(n int64) string {
	size, unit := float64(n), 0
	for size >= 1024 {
		size, unit = size/1024, unit+1
	}
	format := "%.0f %s"
	if size < 10 && unit > 0 {
		format = "%.1f %s"
	}
	return fmt.Sprintf(format, size, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}[unit])
}

// removeAll removes files and directories, whether they exist or not.
func (d *appDir) removeAll(names ...string) error {
	for _, name := range names {
		if err := d.root.RemoveAll(name); err != nil {
			return fmt.Errorf("remove %s: %w", d.pathOf(name), err)
		}
	}
	return nil
}

// readJSON reports whether a file exists, and decodes it into value.
func (d *appDir) readJSON(name string, value any) (bool, error) {
	data, err := d.root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, value)
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", d.pathOf(name), err)
	}
	return true, nil
}

// writeJSON replaces a file atomically. The file is on the disk when writeJSON returns.
func (d *appDir) writeJSON(name string, value any) error {
	data, err := json.Marshal(value)
	if err == nil {
		err = atomicfile.ReplaceIn(d.root, name, data)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", d.pathOf(name), err)
	}
	return nil
}

// removeFile removes a file if it exists, durably.
func (d *appDir) removeFile(name string) error {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", d.pathOf(name), err)
	}
	return atomicfile.SyncDirIn(d.root, path.Dir(name))
}

// rename renames a file or directory durably.
func (d *appDir) rename(from, to string) error {
	if err := d.root.Rename(from, to); err != nil {
		return err
	}
	return atomicfile.SyncDirIn(d.root, path.Dir(to))
}
