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
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker/handlers/trust"
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

// note is what is kept of a release. A directory without one is none of ours.
type note struct {
	SHA256 string    `json:"sha256"`
	At     time.Time `json:"at"`
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
	if _, err := trust.Way(dir); err != nil {
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
	return trust.File(p.at(name), fi)
}

// versionName is as in the schema.
var versionName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._+~-]{0,99}$`)

// current is the version to which the link leads; empty if there is none.
func (p *place) current() (string, error) {
	if p == nil {
		return "", nil
	}
	target, err := p.root.Readlink(linkName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case errors.Is(err, syscall.EINVAL):
		return "", fmt.Errorf("%s is no link; move it away, so that it can become one to a release", p.at(linkName))
	case err != nil:
		return "", fmt.Errorf("read the link %s: %w", p.at(linkName), err)
	}
	dir, version := path.Split(path.Clean(strings.TrimPrefix(target, p.path+"/")))
	if dir != releasesDir+"/" || !versionName.MatchString(version) {
		return "", fmt.Errorf("%s leads to %s and to no release below %s; move it away", p.at(linkName), target, p.at(releasesDir))
	}
	return version, nil
}

// release says whether a release is there; one that was not made here is an error.
func (p *place) release(version string) (note, bool, error) {
	var n note
	if p == nil {
		return n, false, nil
	}
	name := releasesDir + "/" + version
	fi, err := p.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return n, false, nil
	}
	if err != nil {
		return n, false, fmt.Errorf("look for the release: %w", err)
	}
	found, err := p.get(notesDir+"/"+version+".json", &n)
	if err == nil && (!found || !fi.IsDir()) {
		err = fmt.Errorf("%s is there, and was not deployed by this handler; move it away, or name another version", p.at(name))
	}
	return n, err == nil, err
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
	f, err := p.root.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		_, err = f.Write(data)
		if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
			err = p.rename(name+".new", name)
		} else {
			err = errors.Join(err, p.root.Remove(name+".new"))
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", p.at(name), err)
	}
	return nil
}

// remove removes a note of ours; one that is gone is no error.
func (p *place) remove(name string) error {
	if err := p.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", p.at(name), err)
	}
	return p.sync(path.Dir(name))
}

// rename renames, and returns when that is on the disk.
func (p *place) rename(from, to string) error {
	if err := p.root.Rename(from, to); err != nil {
		return err
	}
	return p.sync(path.Dir(to))
}

func (p *place) sync(dir string) error {
	d, err := p.root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// link has current lead to a version, at once; an empty one removes it.
func (p *place) link(version string) error {
	err := p.clear(newLink)
	switch {
	case err != nil:
	case version == "":
		err = p.remove(linkName)
	default:
		if err = p.root.Symlink(releasesDir+"/"+version, newLink); err == nil {
			err = p.rename(newLink, linkName)
		}
	}
	if err != nil {
		return fmt.Errorf("switch the link %s: %w", p.at(linkName), err)
	}
	return nil
}

// drop removes a release: at first from where it can be seen, at once.
func (p *place) drop(version string) error {
	if err := p.clear(removedDir); err != nil {
		return err
	}
	if err := p.rename(releasesDir+"/"+version, removedDir); err != nil {
		return fmt.Errorf("remove the release %s: %w", version, err)
	}
	return errors.Join(p.remove(notesDir+"/"+version+".json"), p.clear(removedDir))
}

// surplus are the releases that go so that keep stay, oldest first; those that are
// spared stay in any case, and count.
func (p *place) surplus(keep int, spared ...string) ([]string, error) {
	if p == nil {
		return nil, nil
	}
	entries, err := fs.ReadDir(p.root.FS(), releasesDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the releases: %w", err)
	}
	type release struct {
		version string
		at      time.Time
	}
	var others []release
	for _, e := range entries {
		if slices.Contains(spared, e.Name()) {
			keep--
			continue
		}
		// What is not ours is left alone.
		if n, ok, err := p.release(e.Name()); err == nil && ok {
			others = append(others, release{e.Name(), n.At})
		}
	}
	slices.SortFunc(others, func(a, b release) int { return a.at.Compare(b.at) })
	var gone []string
	for _, r := range others[:max(0, len(others)-max(0, keep))] {
		gone = append(gone, r.version)
	}
	return gone, nil
}
