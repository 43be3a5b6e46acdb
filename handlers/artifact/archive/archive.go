// Package archive unpacks a tar.gz or zip file into a directory, and never writes
// outside of it. Package artifact uses it to unpack releases.
//
// [Open] reads the archive once without writing anything, and refuses everything that a
// release must not contain: names that are absolute or lead out of the directory,
// devices and pipes, links that lead out, duplicate entries, and more entries or bytes
// than allowed. [Archive.Unpack] then writes through an [os.Root], files before links,
// so that nothing is ever written through a link of the archive. Modes lose the setuid,
// setgid and sticky bits and the write permissions of group and others. All files
// belong to the agent's user.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Format is the format of an archive.
type Format string

// The formats.
const (
	TarGz Format = "tar.gz"
	Zip   Format = "zip"
)

// Limits bound the unpacked content of an archive: a small archive can unpack to a huge
// one.
type Limits struct {
	Bytes   int64
	Entries int
}

// RefusedError is the error of an archive with content that a release must not contain.
type RefusedError struct{ Reason string }

// Error returns the reason.
func (e *RefusedError) Error() string { return "the archive is refused: " + e.Reason }

func refuse(format string, args ...any) error {
	return &RefusedError{Reason: fmt.Sprintf(format, args...)}
}

// kind is the kind of file that an entry becomes.
type kind int

const (
	directory kind = iota
	file
	symlink
	hardlink
)

// entry is one entry of an archive. Its name is local and clean.
type entry struct {
	name string
	kind kind
	mode fs.FileMode
	time time.Time
	size int64
	// target is the target of a link; for a hard link, the name of another entry.
	target string
}

// Archive is an archive that was checked and can be unpacked.
type Archive struct {
	// Bytes and Entries are the size of the unpacked content.
	Bytes   int64
	Entries int

	walk func(visitor) error
}

// visitor is called with each entry of an archive and, if it is a file, its content.
type visitor func(entry, io.Reader) error

// Open reads and checks an archive. The file must not change until it is unpacked. When
// ctx is done, Open and Unpack return. The error is a *RefusedError, or that of a
// damaged archive.
func Open(ctx context.Context, f *os.File, format Format, limits Limits) (*Archive, error) {
	a := &Archive{}
	switch format {
	case TarGz:
		a.walk = func(v visitor) error { return walkTar(ctx, f, v) }
	case Zip:
		a.walk = func(v visitor) error { return walkZip(ctx, f, limits.Entries, v) }
	default:
		return nil, fmt.Errorf("%q is not a format of archives", format)
	}
	seen := map[string]kind{}
	empty := true
	err := a.walk(func(e entry, _ io.Reader) error {
		// The first comparison excludes sizes that would overflow the sum.
		if e.size > limits.Bytes || a.Bytes+e.size > limits.Bytes {
			return refuse("the unpacked content has more than %d bytes; raise max_unpacked_size if that is right", limits.Bytes)
		}
		a.Bytes += e.size
		empty = empty && e.kind == directory
		if err := checkEntry(e, seen); err != nil {
			return err
		}
		// The parent directories of an entry count too: Unpack creates them.
		if a.Entries = len(seen); a.Entries > limits.Entries {
			return refuse("it has more than %d entries; raise max_entries if that is right", limits.Entries)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case empty:
		return nil, refuse("it contains no file")
	}
	return a, nil
}

// checkEntry refuses an entry that a release must not contain. It adds the entry to those
// that have been seen before.
func checkEntry(e entry, seen map[string]kind) error {
	earlier, duplicate := seen[e.name]
	if duplicate && (earlier != directory || e.kind != directory) {
		return refuse("it contains %q twice", e.name)
	}
	for dir := path.Dir(e.name); dir != "."; dir = path.Dir(dir) {
		if k, ok := seen[dir]; ok && k != directory {
			return refuse("%q is below %q, which is not a directory", e.name, dir)
		}
		seen[dir] = directory
	}
	seen[e.name] = e.kind
	switch e.kind {
	case symlink:
		if path.IsAbs(e.target) || !filepath.IsLocal(path.Join(path.Dir(e.name), e.target)) {
			return refuse("the link %q leads out of the directory, to %q; make it relative, or let a hook create it", e.name, e.target)
		}
	case hardlink:
		if k, ok := seen[e.target]; !ok || k != file && k != hardlink {
			return refuse("the hard link %q is to %q, which is not an earlier file of the archive", e.name, e.target)
		}
	case directory, file:
	}
	return nil
}

// maxName bounds the length of a name and of the target of a symbolic link.
const maxName = 1024

// localName returns the clean form of an entry's name; "." is the directory itself.
func localName(name string) (string, error) {
	if len(name) > maxName {
		return "", refuse("a name has more than %d bytes", maxName)
	}
	if name == "" || strings.ContainsAny(name, "\\\x00") || !filepath.IsLocal(name) {
		return "", refuse("the name %q is absolute, leads out of the directory, or is not valid on this system", name)
	}
	return path.Clean(name), nil
}

// contextReader fails when its context is done.
type contextReader struct {
	context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if r.Err() != nil {
		return 0, context.Cause(r.Context)
	}
	return r.Reader.Read(p)
}

// damaged wraps the error of an archive reader, unless it is a refusal.
func damaged(err error) error {
	var refused *RefusedError
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return fmt.Errorf("read the archive: %w", err)
}
