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

// releaseRecord is what the handler records of a release. A directory without a record
// was not deployed by the handler.
type releaseRecord struct {
	SHA256      string    `json:"sha256"`
	InstalledAt time.Time `json:"at"`
}

// versionName is the pattern of a version, as in the schema.
var versionName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._+~-]{0,99}$`)

func recordFile(version string) string { return recordsDir + "/" + version + ".json" }

// currentVersion returns the version to which the link points; empty if there is no link.
func (d *appDir) currentVersion() (string, error) {
	if d == nil {
		return "", nil
	}
	target, err := d.root.Readlink(linkName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case errors.Is(err, syscall.EINVAL):
		return "", fmt.Errorf("%s is not a link; move it away, so that the handler can make a link to a release", d.pathOf(linkName))
	case err != nil:
		return "", fmt.Errorf("read the link %s: %w", d.pathOf(linkName), err)
	}
	dir, version := path.Split(path.Clean(strings.TrimPrefix(target, d.path+"/")))
	if dir != releasesDir+"/" || !versionName.MatchString(version) {
		return "", fmt.Errorf("%s points to %s and not to a release below %s; move it away", d.pathOf(linkName), target, d.pathOf(releasesDir))
	}
	return version, nil
}

// pendingSwitch returns the switch that is not confirmed yet, or nil.
func (d *appDir) pendingSwitch() (*pendingSwitch, error) {
	if d == nil {
		return nil, nil
	}
	var s pendingSwitch
	found, err := d.readJSON(switchFile, &s)
	if err != nil || !found {
		return nil, err
	}
	return &s, nil
}

// findRelease reports whether a release exists, and returns its record. It returns an
// error if something else than a release of this handler has the name.
func (d *appDir) findRelease(version string) (releaseRecord, bool, error) {
	var r releaseRecord
	if d == nil {
		return r, false, nil
	}
	name := releasesDir + "/" + version
	fi, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("find the release: %w", err)
	}
	found, err := d.readJSON(recordFile(version), &r)
	if err == nil && (!found || !fi.IsDir()) {
		err = fmt.Errorf("%s exists, and was not deployed by this handler; move it away, or name another version", d.pathOf(name))
	}
	return r, err == nil, err
}

// switchLink points the link to a version, atomically. An empty version removes the link.
func (d *appDir) switchLink(version string) error {
	err := d.removeAll(newLink)
	switch {
	case err != nil:
	case version == "":
		err = d.removeFile(linkName)
	default:
		if err = d.root.Symlink(releasesDir+"/"+version, newLink); err == nil {
			err = d.rename(newLink, linkName)
		}
	}
	if err != nil {
		return fmt.Errorf("switch the link %s: %w", d.pathOf(linkName), err)
	}
	return nil
}

// removeRelease removes a release. It first moves the release out of sight, so that
// nobody sees half of it.
func (d *appDir) removeRelease(version string) error {
	if err := d.removeAll(removedDir); err != nil {
		return err
	}
	if err := d.rename(releasesDir+"/"+version, removedDir); err != nil {
		return fmt.Errorf("remove the release %s: %w", version, err)
	}
	return errors.Join(d.removeFile(recordFile(version)), d.removeAll(removedDir))
}

// surplusReleases returns the releases beyond the number to keep, oldest first. The
// protected versions are never among them, but they count.
func (d *appDir) surplusReleases(keep int, protected ...string) ([]string, error) {
	if d == nil {
		return nil, nil
	}
	entries, err := fs.ReadDir(d.root.FS(), releasesDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the releases: %w", err)
	}
	type release struct {
		version     string
		installedAt time.Time
	}
	var others []release
	for _, e := range entries {
		if slices.Contains(protected, e.Name()) {
			keep--
			continue
		}
		// Directories that the handler did not make stay.
		if r, ok, err := d.findRelease(e.Name()); err == nil && ok {
			others = append(others, release{e.Name(), r.InstalledAt})
		}
	}
	slices.SortFunc(others, func(a, b release) int { return a.installedAt.Compare(b.installedAt) })
	var surplus []string
	for _, r := range others[:max(0, len(others)-max(0, keep))] {
		surplus = append(surplus, r.version)
	}
	return surplus, nil
}
