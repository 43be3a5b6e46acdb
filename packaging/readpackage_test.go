package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// run returns the standard output of a command.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, stderr.String())
	}
	return string(out)
}

// unpack returns the files and directories of a tar as "mode owner:group", and the
// contents of small files.
func unpack(t *testing.T, r io.Reader) (files, contents map[string]string) {
	t.Helper()
	files, contents = map[string]string{}, map[string]string{}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		name := "/" + strings.Trim(strings.TrimPrefix(h.Name, "./"), "/")
		if h.Uname == "" && h.Uid == 0 { // pacman uses the numbers
			h.Uname, h.Gname = "root", "root"
		}
		files[name] = h.FileInfo().Mode().String() + " " + h.Uname + ":" + h.Gname
		if h.Size < 1<<16 {
			content, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			contents[name] = string(content)
		}
	}
}

// readPackage returns the files of a package and, except for rpm, its control files.
func readPackage(t *testing.T, file string) (files, control map[string]string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	switch filepath.Ext(file) {
	case ".deb":
		_, control = unpack(t, strings.NewReader(run(t, "dpkg-deb", "--ctrl-tarfile", file)))
		files, _ = unpack(t, strings.NewReader(run(t, "dpkg-deb", "--fsys-tarfile", file)))
	case ".apk":
		z, err := gzip.NewReader(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		files, control = unpack(t, z)
	case ".zst":
		z, err := zstd.NewReader(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		files, control = unpack(t, z)
	case ".rpm":
		requireTool(t, "rpm")
		files = map[string]string{}
		for line := range strings.Lines(run(t, "rpm", "-qplv", "--nosignature", file)) {
			fields := strings.Fields(line)
			files[fields[len(fields)-1]] = fields[0] + " " + fields[2] + ":" + fields[3]
		}
	}
	return files, control
}
