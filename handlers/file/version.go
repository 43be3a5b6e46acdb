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

// maxSize bounds what is read and written; the file's content is held in memory.
const maxSize = 16 << 20

// attributes are what a file has; two files with the same ones are the same. They
// are what a record keeps.
type attributes struct {
	SHA256 string      `json:"sha256"`
	Size   int64       `json:"size"`
	UID    int         `json:"uid"`
	GID    int         `json:"gid"`
	Perm   fs.FileMode `json:"perm"`
}

// version is a file at some time; where there is none, a *version is nil.
type version struct {
	attributes
	content []byte
}

func newVersion(content []byte) *version {
	sum := sha256.Sum256(content)
	return &version{attributes{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content))}, content}
}

// is says whether the version has these attributes; nil is of none.
func (v *version) is(a *attributes) bool {
	if v == nil || a == nil {
		return v == nil && a == nil
	}
	return v.attributes == *a
}

// contains says whether the version has the content of that of the attributes.
func (v *version) contains(a *attributes) bool {
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

// String tells the content for a person.
func (a *attributes) String() string {
	if a == nil {
		return "no file"
	}
	return "SHA-256 " + a.SHA256
}

// state is what is said of a version.
func (v *version) state() *State {
	if v == nil {
		return nil
	}
	s := &State{SHA256: v.SHA256, Size: v.Size, Owner: strconv.Itoa(v.UID), Group: strconv.Itoa(v.GID), Mode: fmt.Sprintf("%04o", v.Perm)}
	if u, err := user.LookupId(s.Owner); err == nil {
		s.Owner = u.Username
	}
	if g, err := user.LookupGroupId(s.Group); err == nil {
		s.Group = g.Name
	}
	return s
}

// read reads a file of the place, or rejects what is no plain one.
func (p *place) read(name string) (*version, error) {
	if p.dir == nil {
		return nil, nil
	}
	path := filepath.Join(filepath.Dir(p.path), name)
	info, err := p.dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", path, err)
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return nil, handlers.Reject("%s is a directory", path)
	case mode&fs.ModeSymlink != 0:
		return nil, handlers.Reject("%s is a symbolic link: name the file to which it leads", path)
	case !mode.IsRegular():
		return nil, handlers.Reject("%s is a special file (%s), not one with content", path, mode.Type())
	case info.Size() > maxSize:
		return nil, handlers.Reject("%s has %d bytes: files of more than %d MiB are not for this handler", path, info.Size(), maxSize>>20)
	}
	// What it is now, if it has just been replaced by something else, must not hold
	// up the open.
	f, err := p.dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
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
		return nil, fmt.Errorf("read %s: it is being replaced by somebody else", path)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(content) > maxSize {
		return nil, fmt.Errorf("read %s: it is growing", path)
	}
	v := newVersion(content)
	v.UID, v.GID, v.Perm = int(st.Uid), int(st.Gid), opened.Mode().Perm()
	return v, nil
}
