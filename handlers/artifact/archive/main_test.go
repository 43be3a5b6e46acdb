package archive_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers/artifact/archive"
)

// entry is an entry of an archive that a test packs.
type entry struct {
	name, content, link string
	kind                byte
	mode                int64
}

func file(name, content string) entry {
	return entry{name: name, content: content, kind: tar.TypeReg, mode: 0o644}
}

func dir(name string) entry { return entry{name: name, kind: tar.TypeDir, mode: 0o755} }

func symlink(name, to string) entry {
	return entry{name: name, link: to, kind: tar.TypeSymlink, mode: 0o777}
}

func hardlink(name, to string) entry {
	return entry{name: name, link: to, kind: tar.TypeLink, mode: 0o644}
}

func device(name string, kind byte) entry {
	return entry{name: name, kind: kind, mode: 0o666}
}

var modified = time.Date(2026, 5, 6, 7, 8, 10, 0, time.UTC)

func packTar(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.content)), ModTime: modified, Uid: 1234, Gid: 1234, Devmajor: 1, Devminor: 3}
		if e.kind == tar.TypeXGlobalHeader {
			h = &tar.Header{Typeflag: e.kind, PAXRecords: map[string]string{"comment": e.content}}
			e.content = ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packZip(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: modified}
		mode := fs.FileMode(e.mode & 0o777)
		switch e.kind {
		case tar.TypeSymlink:
			mode |= fs.ModeSymlink
			e.content = e.link
		case tar.TypeDir:
			mode |= fs.ModeDir
		case tar.TypeFifo:
			mode |= fs.ModeNamedPipe
		case tar.TypeChar:
			mode |= fs.ModeDevice | fs.ModeCharDevice
		}
		if e.mode&0o4000 != 0 {
			mode |= fs.ModeSetuid
		}
		h.SetMode(mode)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// writeArchive writes an archive to a file.
func writeArchive(t *testing.T, content []byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "archive"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	return f
}

// unpack unpacks an archive into a directory. It checks that the files beside the
// directory do not change.
func unpack(t *testing.T, format archive.Format, limits archive.Limits, content []byte) (string, error) {
	t.Helper()
	parent := t.TempDir()
	release := filepath.Join(parent, "release")
	if err := errors.Join(os.Mkdir(release, 0o755), os.WriteFile(filepath.Join(parent, "secret"), []byte("secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := os.ReadDir(parent)
		secret, readErr := os.ReadFile(filepath.Join(parent, "secret"))
		if err != nil || readErr != nil || len(left) != 2 || string(secret) != "secret" {
			t.Errorf("something outside of the directory has changed: %v, %q, %v", left, secret, errors.Join(err, readErr))
		}
	})
	a, err := archive.Open(t.Context(), writeArchive(t, content), format, limits)
	if err != nil {
		return release, err
	}
	root, err := os.OpenRoot(release)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return release, a.Unpack(root)
}

// listing returns the modes, and the contents or targets, of all files below a directory.
func listing(t *testing.T, at string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(at, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == at {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(at, path)
		switch fi.Mode().Type() {
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			found[name] = "-> " + target
			return err
		case fs.ModeDir:
			found[name] = fi.Mode().String()
		default:
			content, err := os.ReadFile(path)
			found[name] = fi.Mode().String() + " " + string(content)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func limits() archive.Limits { return archive.Limits{Bytes: 1 << 20, Entries: 100} }

func manyFiles(n int, name string) []entry {
	var entries []entry
	for i := range n {
		entries = append(entries, file(fmt.Sprint(name, i), ""))
	}
	return entries
}
