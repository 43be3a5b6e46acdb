// Package archive unpacks a tar.gz or zip into a directory of which it never
// leaves, whatever the archive says.
//
// [Open] reads the archive once without writing anything, and refuses what has no
// place in a release: names that are absolute or lead out, devices and pipes, links
// to elsewhere, an entry that is there twice, more entries or more bytes than are
// allowed. [Archive.Unpack] then writes through an [os.Root], files before links,
// so that nothing is ever written through a link of the archive. Modes lose setuid,
// setgid, sticky and what group and others may write; what is unpacked belongs to
// the agent's user.
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

// Format is a kind of archive.
type Format string

// The formats.
const (
	TarGz Format = "tar.gz"
	Zip   Format = "zip"
)

// Limits bound what an archive may hold, against those that are small only as long
// as they are packed.
type Limits struct {
	Bytes   int64
	Entries int
}

// RefusedError says what in an archive is refused.
type RefusedError struct{ Reason string }

// Error returns the reason.
func (e *RefusedError) Error() string { return "the archive is refused: " + e.Reason }

func refuse(format string, args ...any) error {
	return &RefusedError{Reason: fmt.Sprintf(format, args...)}
}

// kind is what an entry becomes.
type kind int

const (
	directory kind = iota
	file
	symlink
	hardlink
)

// entry is one of an archive, with a name that is local and clean.
type entry struct {
	name string
	kind kind
	mode fs.FileMode
	time time.Time
	size int64
	// target is that of a link: for a hard link another entry's name.
	target string
}

// Archive is one that may be unpacked.
type Archive struct {
	// Bytes and Entries are what it holds.
	Bytes   int64
	Entries int

	walk func(visit) error
}

// visit is called with each entry and, if it is a file, its content.
type visit func(entry, io.Reader) error

// Open reads an archive, which must not change meanwhile and until it is unpacked.
// Unpack too ends when ctx is done.
// An error is a *RefusedError, or says that the archive is damaged.
func Open(ctx context.Context, f *os.File, format Format, limits Limits) (*Archive, error) {
	a := &Archive{}
	switch format {
	case TarGz:
		a.walk = func(v visit) error { return walkTar(ctx, f, v) }
	case Zip:
		a.walk = func(v visit) error { return walkZip(ctx, f, limits.Entries, v) }
	default:
		return nil, fmt.Errorf("%q is no format of archives", format)
	}
	seen := map[string]kind{}
	empty := true
	err := a.walk(func(e entry, _ io.Reader) error {
		// The first is for sizes that would overflow.
		if e.size > limits.Bytes || a.Bytes+e.size > limits.Bytes {
			return refuse("unpacked it has more than %d bytes; raise max_unpacked_size if that is right", limits.Bytes)
		}
		a.Bytes += e.size
		empty = empty && e.kind == directory
		if err := check(e, seen); err != nil {
			return err
		}
		// The directories above an entry count, as they are made too.
		if a.Entries = len(seen); a.Entries > limits.Entries {
			return refuse("it has more than %d entries; raise max_entries if that is right", limits.Entries)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case empty:
		return nil, refuse("there is no file in it")
	}
	return a, nil
}

// check refuses an entry that has no place in a release. Seen are those before it.
func check(e entry, seen map[string]kind) error {
	before, twice := seen[e.name]
	if twice && (before != directory || e.kind != directory) {
		return refuse("%q is in it twice", e.name)
	}
	for dir := path.Dir(e.name); dir != "."; dir = path.Dir(dir) {
		if k, ok := seen[dir]; ok && k != directory {
			return refuse("%q is below %q, which is no directory", e.name, dir)
		}
		seen[dir] = directory
	}
	seen[e.name] = e.kind
	switch e.kind {
	case symlink:
		if path.IsAbs(e.target) || !filepath.IsLocal(path.Join(path.Dir(e.name), e.target)) {
			return refuse("the link %q leads out of the folder, to %q; make it relative, or have a hook make it", e.name, e.target)
		}
	case hardlink:
		if k, ok := seen[e.target]; !ok || k != file && k != hardlink {
			return refuse("the hard link %q is to %q, which is no file before it in the archive", e.name, e.target)
		}
	case directory, file:
	}
	return nil
}

// maxName bounds a name, and the target of a link.
const maxName = 1024

// localName is an entry's name, as it is used here; the folder itself is ".".
func localName(name string) (string, error) {
	if len(name) > maxName {
		return "", refuse("a name has more than %d bytes", maxName)
	}
	if name == "" || strings.ContainsAny(name, "\\\x00") || !filepath.IsLocal(name) {
		return "", refuse("the name %q is absolute, leads out of the folder, or is none on this system", name)
	}
	return path.Clean(name), nil
}

// withContext is a reader that ends when ctx is done.
type withContext struct {
	context.Context
	io.Reader
}

func (r withContext) Read(p []byte) (int, error) {
	if r.Err() != nil {
		return 0, context.Cause(r.Context)
	}
	return r.Reader.Read(p)
}

// damaged wraps what a reader of archives says.
func damaged(err error) error {
	var refused *RefusedError
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return fmt.Errorf("read the archive: %w", err)
}
