package trust_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers/trust"
)

func TestCheckDir(t *testing.T) {
	t.Parallel()
	const nobody = 65534
	tests := map[string]struct {
		edit func(home string)
		// resolved is the real path of a/b; culprit is the path in the error, or empty if
		// no error is expected.
		resolved, culprit string
	}{
		"plain":             {func(string) {}, "a/b", ""},
		"missing":           {func(h string) { do(os.Remove(h + "/a/b")) }, "a/b", ""},
		"parent missing":    {func(h string) { do(os.RemoveAll(h + "/a")) }, "a/b", ""},
		"not a directory":   {func(h string) { do(os.Remove(h + "/a/b")); do(os.WriteFile(h+"/a/b", nil, 0o600)) }, "", "a/b"},
		"writable":          {func(h string) { do(os.Chmod(h+"/a/b", 0o777)) }, "", "a/b"},
		"writable parent":   {func(h string) { do(os.Chmod(h+"/a", 0o775)) }, "", "a"},
		"sticky":            {func(h string) { do(os.Chmod(h+"/a/b", 0o777|os.ModeSticky)) }, "", "a/b"},
		"sticky parent":     {func(h string) { do(os.Chmod(h+"/a", 0o777|os.ModeSticky)) }, "a/b", ""},
		"foreign":           {func(h string) { do(os.Chown(h+"/a/b", nobody, nobody)) }, "", "a/b"},
		"foreign parent":    {func(h string) { do(os.Chown(h+"/a", nobody, nobody)) }, "", "a"},
		"foreign, sticky":   {func(h string) { do(os.Chown(h+"/a", nobody, nobody)); do(os.Chmod(h+"/a", 0o755|os.ModeSticky)) }, "", "a"},
		"link, foreign dir": {func(h string) { link(h, "a/b", "../open/b"); do(os.Chown(h+"/open", nobody, nobody)) }, "", "open"},
		"foreign link in a sticky directory": {func(h string) {
			do(os.Chmod(h+"/a", 0o777|os.ModeSticky))
			link(h, "a/b", "../open/b")
			do(os.Lchown(h+"/a/b", nobody, nobody))
		}, "", "a/b"},
		"foreign link in a trusted directory": {func(h string) {
			link(h, "a/b", "../open/b")
			do(os.Lchown(h+"/a/b", nobody, nobody))
		}, "open/b", ""},
		"link": {func(h string) { link(h, "a/b", h+"/open/b") }, "open/b", ""},
		"link through a link": {func(h string) {
			do(os.Mkdir(h+"/end", 0o755))
			link(h, "a/b", "../open/link")
			link(h, "open/link", h+"/end")
			do(os.Chmod(h+"/open", 0o777))
		}, "", "open"},
		"link to itself": {func(h string) { link(h, "a/b", "b") }, "", "a/b"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(name, "foreign") && os.Geteuid() != 0 {
				t.Skip("only root can create files of another user")
			}
			home, err := filepath.EvalSymlinks(t.TempDir())
			do(err)
			do(os.MkdirAll(home+"/a/b", 0o755))
			do(os.MkdirAll(home+"/open/b", 0o755))
			tt.edit(home)
			resolved, err := trust.CheckDir(home + "/a/b")
			switch {
			case tt.culprit == "" && (err != nil || resolved != filepath.Join(home, tt.resolved)):
				t.Errorf("CheckDir = %s, %v; want %s", resolved, err, filepath.Join(home, tt.resolved))
			case tt.culprit != "" && (err == nil || !strings.HasPrefix(strings.Replace(err.Error(), ":", " ", 1), filepath.Join(home, tt.culprit)+" ")):
				t.Errorf("CheckDir = %v, want an error about %s", err, tt.culprit)
			}
		})
	}
}

func TestCheckFile(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit    func(home string)
		culprit string
	}{
		"plain":                   {func(string) {}, ""},
		"missing":                 {func(h string) { do(os.Remove(h + "/a/f")) }, ""},
		"writable":                {func(h string) { do(os.Chmod(h+"/a/f", 0o666)) }, "a/f"},
		"writable parent":         {func(h string) { do(os.Chmod(h+"/a", 0o777)) }, "a"},
		"sticky parent":           {func(h string) { do(os.Chmod(h+"/a", 0o777|os.ModeSticky)) }, ""},
		"below a file":            {func(h string) { do(os.RemoveAll(h + "/a")); do(os.WriteFile(h+"/a", nil, 0o600)) }, "a"},
		"link":                    {func(h string) { link(h, "a/f", "../b") }, ""},
		"link to a writable file": {func(h string) { link(h, "a/f", "../b"); do(os.Chmod(h+"/b", 0o660)) }, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home, err := filepath.EvalSymlinks(t.TempDir())
			do(err)
			do(os.Mkdir(home+"/a", 0o755))
			do(os.WriteFile(home+"/a/f", nil, 0o600))
			do(os.WriteFile(home+"/b", nil, 0o600))
			tt.edit(home)
			err = trust.CheckFile(home + "/a/f")
			if tt.culprit == "" && err != nil || tt.culprit != "" && (err == nil || !strings.HasPrefix(err.Error(), filepath.Join(home, tt.culprit)+" ")) {
				t.Errorf("CheckFile = %v, want an error about %q", err, tt.culprit)
			}
		})
	}
}

func do(err error) {
	if err != nil {
		panic(err)
	}
}

// link replaces name with a symbolic link to target.
func link(home, name, target string) {
	do(os.RemoveAll(home + "/" + name))
	do(os.Symlink(target, home+"/"+name))
}
