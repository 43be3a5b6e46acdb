package file

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// maxSize bounds the size of a file in bytes; the content is held in memory.
const maxSize = 16 << 20

// attributes describe a file: two files with equal attributes are equal. An undo record
// stores them.
type attributes struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	// Perm has the permissions and the bits setuid, setgid and sticky.
	Perm fs.FileMode `json:"perm"`
}

// version is a file at some time, with its content. A nil *version is a file that does
// not exist.
type version struct {
	attributes
	content []byte
	// links is the number of hard links; 0 if the version has not been read from a file.
	links int
}

func newVersion(content []byte) *version {
	sum := sha256.Sum256(content)
	return &version{attributes: attributes{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content))}, content: content}
}

// equals reports whether the version has these attributes.
func (v *version) equals(a *attributes) bool {
	if v == nil || a == nil {
		return v == nil && a == nil
	}
	return v.attributes == *a
}

// hasContentOf reports whether the version has the content that the attributes describe.
func (v *version) hasContentOf(a *attributes) bool {
	if v == nil || a == nil {
		return v == nil && a == nil
	}
	return v.SHA256 == a.SHA256
}

func (v *version) attrs() *attributes {
	if v == nil {
		return nil
	}
	return &v.attributes
}

// String describes the content for people.
func (a *attributes) String() string {
	if a == nil {
		return "no file"
	}
	return "SHA-256 " + a.SHA256
}

// state returns the description of a version for the outcome.
func (v *version) state() *State {
	if v == nil {
		return nil
	}
	s := &State{SHA256: v.SHA256, Size: v.Size, Owner: strconv.Itoa(v.UID), Group: strconv.Itoa(v.GID), Mode: formatMode(v.Perm)}
	if u, err := user.LookupId(s.Owner); err == nil {
		s.Owner = u.Username
	}
	if g, err := user.LookupGroupId(s.Group); err == nil {
		s.Group = g.Name
	}
	return s
}

// read reads a file of the directory; nil if it does not exist. It rejects everything but
// regular files.
func (t *target) read(name string) (*version, error) {
	if t.dir == nil {
		return nil, nil
	}
	path := filepath.Join(filepath.Dir(t.path), name)
	info, err := t.dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return nil, handlers.Reject("%s is a directory", path)
	case mode&fs.ModeSymlink != 0:
		return nil, handlers.Reject("%s is a symbolic link: name the file to which it points", path)
	case !mode.IsRegular():
		return nil, handlers.Reject("%s is a special file (%s), not a regular one", path, mode.Type())
	case info.Size() > maxSize:
		return nil, handlers.Reject("%s has %d bytes: this handler supports files of at most %d MiB", path, info.Size(), maxSize>>20)
	}
	// If the file has just been replaced by a pipe, opening it must not block.
	f, err := t.dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	defer f.Close()
	opened, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	st, ok := opened.Sys().(*syscall.Stat_t)
	if !ok || !os.SameFile(info, opened) {
		return nil, fmt.Errorf("read %s: another program is replacing it", path)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(content) > maxSize {
		return nil, fmt.Errorf("read %s: it is growing", path)
	}
	v := newVersion(content)
	v.UID, v.GID, v.Perm, v.links = int(st.Uid), int(st.Gid), opened.Mode()&permissionBits, int(st.Nlink)
	return v, nil
}
