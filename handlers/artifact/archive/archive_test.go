package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/artifact/archive"
)

func TestUnpack(t *testing.T) {
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
		if err != nil || !fi.ModTime().Equal(modified) {
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
		for name, content := range want {
			more[name] = content
		}
		comment := entry{kind: tar.TypeXGlobalHeader, content: "a commit"}
		check(t, archive.TarGz, packTar(t, append(append([]entry{comment}, entries...), hardlink("hard", "deep/er/file"))...), more)
	})
}

func TestOpenRefuses(t *testing.T) {
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
		{"backslashes", both, []entry{file(`..\secret`, "x")}, "or is not valid on this system"},
		{"empty name", onlyTar, []entry{file("", "x")}, "or is not valid"},
		{"long name", both, []entry{file(strings.Repeat("d/", 3000)+"f", "")}, "a name has more than"},
		{"directory up", both, []entry{dir("../other/")}, "leads out"},
		{"link up", both, []entry{symlink("l", "../secret")}, `the link "l" leads out of the directory, to "../secret"`},
		{"link from below", both, []entry{symlink("a/b/l", "../../../secret")}, "leads out"},
		{"absolute link", both, []entry{symlink("l", "/etc/passwd")}, "leads out"},
		{"write through a link", both, []entry{symlink("l", ".."), file("l/secret", "x")}, "leads out"},
		{"write through a link inside", both, []entry{dir("d"), symlink("l", "d"), file("l/f", "x")}, `"l/f" is below "l", which is not a directory`},
		{"a link over a directory", both, []entry{file("d/f", "x"), symlink("d", "e")}, `it contains "d" twice`},
		{"a file over a link", both, []entry{symlink("l", "d"), file("l", "x")}, `it contains "l" twice`},
		{"a file twice", both, []entry{file("f", "x"), file("./f", "y")}, `it contains "f" twice`},
		{"out through another link", both, []entry{symlink("d/up", ".."), symlink("l", "d/up/../secret")}, "leads out of the directory, or in a circle"},
		{"circle", both, []entry{symlink("a", "b"), symlink("b", "a")}, "in a circle"},
		{"no entries", both, nil, "it contains no file"},
		{"directories only", both, []entry{dir("a/"), dir("a/b/")}, "it contains no file"},
		{"pipe", both, []entry{device("p", tar.TypeFifo)}, `"p" is neither a file, a directory nor a link`},
		{"character device", both, []entry{device("null", tar.TypeChar)}, "neither a file"},
		{"block device", onlyTar, []entry{device("sda", tar.TypeBlock)}, "neither a file"},
		{"hard link up", onlyTar, []entry{hardlink("h", "../secret")}, `"../secret" is absolute, leads out`},
		{"hard link absolute", onlyTar, []entry{hardlink("h", "/etc/passwd")}, "is absolute"},
		{"hard link to a later file", onlyTar, []entry{hardlink("h", "f"), file("f", "x")}, "is not an earlier file"},
		{"hard link to a link", onlyTar, []entry{symlink("s", "f"), file("f", ""), hardlink("h", "s")}, "is not an earlier file"},
		{"bomb", both, []entry{file("zeros", strings.Repeat("\x00", 1<<20+1))}, "more than 1048576 bytes; raise max_unpacked_size"},
		{"bomb of several files", both, []entry{file("a", strings.Repeat("\x00", 1<<19)), file("b", strings.Repeat("\x00", 1<<19)), file("c", "1")}, "raise max_unpacked_size"},
		{"many entries", both, manyFiles(101, "f"), "more than 100 entries; raise max_entries"},
		{"very many entries", both[1:], manyFiles(400, strings.Repeat("n", 1000)), "its directory is too large"},
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

func TestOpenDamaged(t *testing.T) {
	t.Parallel()
	good := map[archive.Format][]byte{
		archive.TarGz: packTar(t, file("f", strings.Repeat("text", 1000)), file("g", "x")),
		archive.Zip:   packZip(t, file("f", strings.Repeat("text", 1000)), file("g", "x")),
	}
	// The directory of a zip file can contain a wrong size.
	wrongSize := bytes.Clone(good[archive.Zip])
	at := bytes.Index(wrongSize, []byte("PK\x01\x02"))
	copy(wrongSize[at+24:], []byte{1, 0, 0, 0})
	for name, test := range map[string]struct {
		format  archive.Format
		content []byte
	}{
		"empty tar.gz": {archive.TarGz, nil}, "empty zip": {archive.Zip, nil},
		"half a tar.gz": {archive.TarGz, good[archive.TarGz][:60]}, "half a zip": {archive.Zip, good[archive.Zip][:60]},
		"zip as tar.gz": {archive.TarGz, good[archive.Zip]}, "tar.gz as zip": {archive.Zip, good[archive.TarGz]},
		"wrong size": {archive.Zip, wrongSize},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := unpack(t, test.format, limits(), test.content); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestOpenRefusesEncryptedZip(t *testing.T) {
	t.Parallel()
	content := packZip(t, file("f", "secret"))
	for _, header := range []struct {
		signature string
		flags     int
	}{{"PK\x03\x04", 6}, {"PK\x01\x02", 8}} {
		content[bytes.Index(content, []byte(header.signature))+header.flags] |= 1
	}
	var refused *archive.RefusedError
	if _, err := unpack(t, archive.Zip, limits(), content); !errors.As(err, &refused) || !strings.Contains(err.Error(), `the archive is encrypted ("f")`) {
		t.Errorf("got %v", err)
	}
}

func TestOpenStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(handlers.ErrCancelled)
	for format, content := range map[archive.Format][]byte{archive.TarGz: packTar(t, file("f", "x")), archive.Zip: packZip(t, file("f", "x"))} {
		if _, err := archive.Open(ctx, writeArchive(t, content), format, limits()); !errors.Is(err, handlers.ErrCancelled) {
			t.Errorf("%s: %v", format, err)
		}
	}
}
