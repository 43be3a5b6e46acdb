package archive_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/artifact/archive"
)

// entry is one to be packed.
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

var when = time.Date(2026, 5, 6, 7, 8, 10, 0, time.UTC)

func packTar(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.content)), ModTime: when, Uid: 1234, Gid: 1234, Devmajor: 1, Devminor: 3}
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
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: when}
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

// put writes an archive into a file.
func put(t *testing.T, content []byte) *os.File {
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

// unpack unpacks into a directory, beside which lies what must not be touched.
func unpack(t *testing.T, format archive.Format, limits archive.Limits, content []byte) (string, error) {
	t.Helper()
	parent := t.TempDir()
	at := filepath.Join(parent, "release")
	if err := errors.Join(os.Mkdir(at, 0o755), os.WriteFile(filepath.Join(parent, "secret"), []byte("secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := os.ReadDir(parent)
		secret, readErr := os.ReadFile(filepath.Join(parent, "secret"))
		if err != nil || readErr != nil || len(left) != 2 || string(secret) != "secret" {
			t.Errorf("outside of the directory something has changed: %v, %q, %v", left, secret, errors.Join(err, readErr))
		}
	})
	a, err := archive.Open(t.Context(), put(t, content), format, limits)
	if err != nil {
		return at, err
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return at, a.Unpack(root)
}

// listing is all that is below a directory: modes, and contents or targets.
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

func TestUnpacks(t *testing.T) {
	t.Parallel()
	entries := []entry{
		dir("./"), dir("bin/"), dir("closed/"),
		{name: "bin/app", content: "#!/bin/sh\n", kind: tar.TypeReg, mode: 0o4777},
		file("deep/er/file", "content"),
		{name: "closed/secret", content: "s", kind: tar.TypeReg, mode: 0},
		symlink("latest", "deep/er"), symlink("deep/up", "../bin/app"), symlink("later", "made/by/the/app"),
	}
	entries[2].mode = 0o500
	want := map[string]string{
		"bin": "drwxr-xr-x", "bin/app": "-rwxr-xr-x #!/bin/sh\n", "closed": "drwx------", "closed/secret": "-r-------- s",
		"deep": "drwxr-xr-x", "deep/er": "drwxr-xr-x", "deep/er/file": "-rw-r--r-- content",
		"latest": "-> deep/er", "deep/up": "-> ../bin/app", "later": "-> made/by/the/app",
	}
	check := func(t *testing.T, format archive.Format, content []byte, want map[string]string) {
		t.Helper()
		at, err := unpack(t, format, limits(), content)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, listing(t, at)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		fi, err := os.Stat(filepath.Join(at, "bin/app"))
		if err != nil || !fi.ModTime().Equal(when) {
			t.Errorf("bin/app: %v, %v", fi, err)
		}
	}
	t.Run("zip", func(t *testing.T) {
		t.Parallel()
		check(t, archive.Zip, packZip(t, entries...), want)
	})
	t.Run("tar.gz", func(t *testing.T) {
		t.Parallel()
		more := map[string]string{"hard": "-rw-r--r-- content"}
		for name, is := range want {
			more[name] = is
		}
		comment := entry{kind: tar.TypeXGlobalHeader, content: "a commit"}
		check(t, archive.TarGz, packTar(t, append(append([]entry{comment}, entries...), hardlink("hard", "deep/er/file"))...), more)
	})
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	both := []archive.Format{archive.TarGz, archive.Zip}
	onlyTar := both[:1]
	tests := []struct {
		name    string
		formats []archive.Format
		entries []entry
		want    string
	}{
		{"up", both, []entry{file("../secret", "x")}, `"../secret" is absolute, leads out`},
		{"up in the middle", both, []entry{file("a/../../secret", "x")}, "leads out"},
		{"absolute", both, []entry{file("/tmp/tasker-absolute", "x")}, "is absolute"},
		{"backslashes", both, []entry{file(`..\secret`, "x")}, "or is none on this system"},
		{"no name", onlyTar, []entry{file("", "x")}, "or is none"},
		{"long name", both, []entry{file(strings.Repeat("d/", 3000)+"f", "")}, "a name has more than"},
		{"directory up", both, []entry{dir("../other/")}, "leads out"},
		{"link up", both, []entry{symlink("l", "../secret")}, `the link "l" leads out of the folder, to "../secret"`},
		{"link from below", both, []entry{symlink("a/b/l", "../../../secret")}, "leads out"},
		{"absolute link", both, []entry{symlink("l", "/etc/passwd")}, "leads out"},
		{"write through a link", both, []entry{symlink("l", ".."), file("l/secret", "x")}, "leads out"},
		{"write through a link inside", both, []entry{dir("d"), symlink("l", "d"), file("l/f", "x")}, `"l/f" is below "l", which is no directory`},
		{"a link over a directory", both, []entry{file("d/f", "x"), symlink("d", "e")}, `"d" is in it twice`},
		{"a file over a link", both, []entry{symlink("l", "d"), file("l", "x")}, `"l" is in it twice`},
		{"a file twice", both, []entry{file("f", "x"), file("./f", "y")}, `"f" is in it twice`},
		{"out by way of another link", both, []entry{symlink("d/up", ".."), symlink("l", "d/up/../secret")}, "leads out of the folder, or in a circle"},
		{"circle", both, []entry{symlink("a", "b"), symlink("b", "a")}, "in a circle"},
		{"nothing", both, nil, "there is no file in it"},
		{"directories only", both, []entry{dir("a/"), dir("a/b/")}, "there is no file in it"},
		{"pipe", both, []entry{device("p", tar.TypeFifo)}, `"p" is neither file, directory nor link`},
		{"character device", both, []entry{device("null", tar.TypeChar)}, "neither file"},
		{"block device", onlyTar, []entry{device("sda", tar.TypeBlock)}, "neither file"},
		{"hard link up", onlyTar, []entry{hardlink("h", "../secret")}, `"../secret" is absolute, leads out`},
		{"hard link absolute", onlyTar, []entry{hardlink("h", "/etc/passwd")}, "is absolute"},
		{"hard link to what is not there", onlyTar, []entry{hardlink("h", "f"), file("f", "x")}, "is no file before it"},
		{"hard link to a link", onlyTar, []entry{symlink("s", "f"), file("f", ""), hardlink("h", "s")}, "is no file before it"},
		{"bomb", both, []entry{file("zeros", strings.Repeat("\x00", 1<<20+1))}, "more than 1048576 bytes; raise max_unpacked_size"},
		{"bomb of many", both, []entry{file("a", strings.Repeat("\x00", 1<<19)), file("b", strings.Repeat("\x00", 1<<19)), file("c", "1")}, "raise max_unpacked_size"},
		{"many entries", both, many(101, "f"), "more than 100 entries; raise max_entries"},
		{"very many entries", both[1:], many(400, strings.Repeat("n", 1000)), "its directory is too large"},
		{"deep directories", both, []entry{file(strings.Repeat("d/", 100)+"f", "")}, "more than 100 entries"},
	}
	for _, tt := range tests {
		for _, format := range tt.formats {
			t.Run(tt.name+"/"+string(format), func(t *testing.T) {
				t.Parallel()
				pack := packTar
				if format == archive.Zip {
					pack = packZip
				}
				_, err := unpack(t, format, limits(), pack(t, tt.entries...))
				var refused *archive.RefusedError
				if !errors.As(err, &refused) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want a refusal with %q", err, tt.want)
				}
			})
		}
	}
}

func many(n int, name string) []entry {
	var entries []entry
	for i := range n {
		entries = append(entries, file(fmt.Sprint(name, i), ""))
	}
	return entries
}

func TestDamaged(t *testing.T) {
	t.Parallel()
	good := map[archive.Format][]byte{
		archive.TarGz: packTar(t, file("f", strings.Repeat("text", 1000)), file("g", "x")),
		archive.Zip:   packZip(t, file("f", strings.Repeat("text", 1000)), file("g", "x")),
	}
	// Sizes in a zip's directory are believed by nobody.
	lying := bytes.Clone(good[archive.Zip])
	at := bytes.Index(lying, []byte("PK\x01\x02"))
	copy(lying[at+24:], []byte{1, 0, 0, 0})
	for name, test := range map[string]struct {
		format  archive.Format
		content []byte
	}{
		"empty tar.gz": {archive.TarGz, nil}, "empty zip": {archive.Zip, nil},
		"half a tar.gz": {archive.TarGz, good[archive.TarGz][:60]}, "half a zip": {archive.Zip, good[archive.Zip][:60]},
		"zip as tar.gz": {archive.TarGz, good[archive.Zip]}, "tar.gz as zip": {archive.Zip, good[archive.TarGz]},
		"a size that is wrong": {archive.Zip, lying},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := unpack(t, test.format, limits(), test.content); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(handlers.ErrCancelled)
	for format, content := range map[archive.Format][]byte{archive.TarGz: packTar(t, file("f", "x")), archive.Zip: packZip(t, file("f", "x"))} {
		if _, err := archive.Open(ctx, put(t, content), format, limits()); !errors.Is(err, handlers.ErrCancelled) {
			t.Errorf("%s: %v", format, err)
		}
	}
}
