package artifact

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// note is what is kept of a release. A directory without one is none of ours.
type note struct {
	SHA256 string    `json:"sha256"`
	At     time.Time `json:"at"`
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
