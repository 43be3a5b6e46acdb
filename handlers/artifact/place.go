package artifact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker/handlers/trust"
	"github.com/MatthiasWiesner/tasker/internal/atomicfile"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// What is in a place.
const (
	linkName    = "current"
	releasesDir = "releases"
	ownDir      = ".tasker"
	notesDir    = ownDir + "/releases"
	lockFile    = ownDir + "/lock"
	switchFile  = ownDir + "/switch.json"
	unpackDir   = ownDir + "/unpacking"
	newLink     = ownDir + "/current"
	removedDir  = ownDir + "/removed"
	partSuffix  = ".part"
)

// place is a directory that is deployed to. All of it is reached through root, so
// that no link leads out of it.
type place struct {
	path string
	root *os.Root
	lock *os.File
}

// pending is a switch that is not confirmed yet.
type pending struct {
	Task    string `json:"task"`
	Attempt int    `json:"attempt"`
	// From is the last release that was confirmed; empty if there is none.
	From string `json:"from"`
	To   string `json:"to"`
	// Step and Failed say why it is being switched back, if it is.
	Step   string `json:"step,omitempty"`
	Failed string `json:"failed,omitempty"`
}

// look opens a place as it is, to read; nil if it is not there.
func look(dir string) (*place, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return &place{path: dir, root: root}, nil
}

// enter opens a place, makes what is missing, waits until nobody else deploys there,
// and clears away what an agent that was killed has left half done.
func enter(ctx context.Context, dir string, waiting func()) (*place, error) {
	if _, err := trust.CheckDir(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory: %w", err)
	}
	p, err := look(dir)
	if err != nil {
		return nil, err
	}
	if err := p.prepare(ctx, waiting); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *place) prepare(ctx context.Context, waiting func()) error {
	for _, d := range []struct {
		name string
		mode fs.FileMode
	}{{".", 0}, {releasesDir, 0o755}, {ownDir, 0o700}, {notesDir, 0o700}} {
		if err := p.root.MkdirAll(d.name, d.mode); err != nil {
			return fmt.Errorf("make %s: %w", p.at(d.name), err)
		}
		if err := p.trusted(d.name); err != nil {
			return err
		}
	}
	lock, err := p.root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock %s: %w", p.path, err)
	}
	p.lock = lock
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w", p.path, err)
		}
		waiting()
		if backoff.Sleep(ctx, 200*time.Millisecond) != nil {
			return context.Cause(ctx)
		}
	}
	return p.clear(unpackDir, newLink, removedDir)
}

func (p *place) clear(names ...string) error {
	for _, name := range names {
		if err := p.root.RemoveAll(name); err != nil {
			return fmt.Errorf("clear %s: %w", p.at(name), err)
		}
	}
	return nil
}

// close also unlocks.
func (p *place) close() {
	if p == nil {
		return
	}
	if p.lock != nil {
		// A process that was forked just now may have it open a moment longer.
		_, _ = unix.Flock(int(p.lock.Fd()), unix.LOCK_UN), p.lock.Close()
	}
	_ = p.root.Close()
}

func (p *place) at(name string) string { return filepath.Join(p.path, name) }

// trusted says whether only root and the agent's user can change what has a name
// here: programs of it are run by the agent.
func (p *place) trusted(name string) error {
	fi, err := p.root.Stat(name)
	if err != nil {
		return fmt.Errorf("%s: %w", p.at(name), err)
	}
	return trust.CheckInfo(p.at(name), fi)
}

// unconfirmed returns the switch that was not confirmed, if there is one.
func (p *place) unconfirmed() (*pending, error) {
	if p == nil {
		return nil, nil
	}
	var s pending
	found, err := p.get(switchFile, &s)
	if err != nil || !found {
		return nil, err
	}
	return &s, nil
}

func (p *place) get(name string, into any) (bool, error) {
	data, err := p.root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", p.at(name), err)
	}
	return true, nil
}

// put writes a note of ours, which appears as a whole, and returns when it is on the disk.
func (p *place) put(name string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write %s: %w", p.at(name), err)
	}
	if err := atomicfile.ReplaceIn(p.root, name, data); err != nil {
		return fmt.Errorf("write %s: %w", p.at(name), err)
	}
	return nil
}

// remove removes a note of ours; one that is gone is no error.
func (p *place) remove(name string) error {
	if err := p.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", p.at(name), err)
	}
	return atomicfile.SyncDirIn(p.root, path.Dir(name))
}

// rename renames, and returns when that is on the disk.
func (p *place) rename(from, to string) error {
	if err := p.root.Rename(from, to); err != nil {
		return err
	}
	return atomicfile.SyncDirIn(p.root, path.Dir(to))
}
