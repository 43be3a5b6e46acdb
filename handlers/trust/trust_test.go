package trust_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers/trust"
)

func TestWay(t *testing.T) {
	t.Parallel()
	const nobody = 65534
	tests := map[string]struct {
		edit func(home string)
		// is where a/b really is; culprit is what the error names, empty if there is none.
		is, culprit string
	}{
		"plain":             {func(string) {}, "a/b", ""},
		"not there":         {func(h string) { do(os.Remove(h + "/a/b")) }, "a/b", ""},
		"none of it":        {func(h string) { do(os.RemoveAll(h + "/a")) }, "a/b", ""},
		"a file":            {func(h string) { do(os.Remove(h + "/a/b")); do(os.WriteFile(h+"/a/b", nil, 0o600)) }, "", "a/b"},
		"writable":          {func(h string) { do(os.Chmod(h+"/a/b", 0o777)) }, "", "a/b"},
		"writable above":    {func(h string) { do(os.Chmod(h+"/a", 0o775)) }, "", "a"},
		"sticky":            {func(h string) { do(os.Chmod(h+"/a/b", 0o777|os.ModeSticky)) }, "", "a/b"},
		"sticky above":      {func(h string) { do(os.Chmod(h+"/a", 0o777|os.ModeSticky)) }, "a/b", ""},
		"another's":         {func(h string) { do(os.Chown(h+"/a/b", nobody, nobody)) }, "", "a/b"},
		"another's above":   {func(h string) { do(os.Chown(h+"/a", nobody, nobody)) }, "", "a"},
		"another's, sticky": {func(h string) { do(os.Chown(h+"/a", nobody, nobody)); do(os.Chmod(h+"/a", 0o755|os.ModeSticky)) }, "", "a"},
		"another's link":    {func(h string) { link(h, "a/b", "../open/b"); do(os.Chown(h+"/open", nobody, nobody)) }, "", "open"},
		"another's in a sticky one": {func(h string) {
			do(os.Chmod(h+"/a", 0o777|os.ModeSticky))
			link(h, "a/b", "../open/b")
			do(os.Lchown(h+"/a/b", nobody, nobody))
		}, "", "a/b"},
		"another's in one that is his to read": {func(h string) {
			link(h, "a/b", "../open/b")
			do(os.Lchown(h+"/a/b", nobody, nobody))
		}, "open/b", ""},
		"link": {func(h string) { link(h, "a/b", h+"/open/b") }, "open/b", ""},
		"link by a link": {func(h string) {
			do(os.Mkdir(h+"/end", 0o755))
			link(h, "a/b", "../open/link")
			link(h, "open/link", h+"/end")
			do(os.Chmod(h+"/open", 0o777))
		}, "", "open"},
		"circle": {func(h string) { link(h, "a/b", "b") }, "", "a/b"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.HasPrefix(name, "another's") && os.Geteuid() != 0 {
				t.Skip("left out: files of another user, which only root can make")
			}
			home, err := filepath.EvalSymlinks(t.TempDir())
			do(err)
			do(os.MkdirAll(home+"/a/b", 0o755))
			do(os.MkdirAll(home+"/open/b", 0o755))
			tt.edit(home)
			is, err := trust.Way(home + "/a/b")
			switch {
			case tt.culprit == "" && (err != nil || is != filepath.Join(home, tt.is)):
				t.Errorf("it is %s, %v", is, err)
			case tt.culprit != "" && (err == nil || !strings.HasPrefix(strings.Replace(err.Error(), ":", " ", 1), filepath.Join(home, tt.culprit)+" ")):
				t.Errorf("got %v, want one of %s", err, tt.culprit)
			}
		})
	}
}

// The same holds for a file, and for the file that a link leads to.
func TestPath(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit    func(home string)
		culprit string
	}{
		"plain":              {func(string) {}, ""},
		"not there":          {func(h string) { do(os.Remove(h + "/a/f")) }, ""},
		"writable":           {func(h string) { do(os.Chmod(h+"/a/f", 0o666)) }, "a/f"},
		"writable above":     {func(h string) { do(os.Chmod(h+"/a", 0o777)) }, "a"},
		"sticky above":       {func(h string) { do(os.Chmod(h+"/a", 0o777|os.ModeSticky)) }, ""},
		"below a file":       {func(h string) { do(os.RemoveAll(h + "/a")); do(os.WriteFile(h+"/a", nil, 0o600)) }, "a"},
		"link":               {func(h string) { link(h, "a/f", "../b") }, ""},
		"link to a writable": {func(h string) { link(h, "a/f", "../b"); do(os.Chmod(h+"/b", 0o660)) }, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home, err := filepath.EvalSymlinks(t.TempDir())
			do(err)
			do(os.Mkdir(home+"/a", 0o755))
			do(os.WriteFile(home+"/a/f", nil, 0o600))
			do(os.WriteFile(home+"/b", nil, 0o600))
			tt.edit(home)
			err = trust.Path(home + "/a/f")
			if tt.culprit == "" && err != nil || tt.culprit != "" && (err == nil || !strings.HasPrefix(err.Error(), filepath.Join(home, tt.culprit)+" ")) {
				t.Errorf("got %v, want one of %q", err, tt.culprit)
			}
		})
	}
}

func do(err error) {
	if err != nil {
		panic(err)
	}
}

// link replaces a name by a link.
func link(home, name, target string) {
	do(os.RemoveAll(home + "/" + name))
	do(os.Symlink(target, home+"/"+name))
}
