package file

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff"
)

const (
	// maxDiff bounds the diff in bytes: a result may have 256 KiB of JSON, in which one
	// byte can take six.
	maxDiff = 32 << 10
	// maxCompared bounds the size of the compared files in bytes.
	maxCompared = 1 << 20
)

// diff returns the unified diff of two versions, or a note that explains why there is
// none.
func (a *assignment) diff(from, to *version) (diff, note string) {
	if from.hasContentOf(to.attrs()) {
		return "", ""
	}
	before, after := from.text(), to.text()
	shown := a.Diff || isPublicDir(filepath.Dir(a.Path)) && from.isPublic() && to.isPublic()
	switch {
	case !shown:
		return "", `there is no diff: not all users of the server can read the file; "diff": true in the payload shows it anyway`
	case !isText(before) || !isText(after):
		return "", "there is no diff: the file is binary"
	case max(len(before), len(after)) > maxCompared:
		return "", fmt.Sprintf("there is no diff: the file has more than %d KiB", maxCompared>>10)
	}
	diff, err := udiff.ToUnified(a.label(from), a.label(to), before, udiff.Lines(before, after), udiff.DefaultContextLines)
	if err != nil {
		return "", "there is no diff: " + err.Error()
	}
	if len(diff) > maxDiff {
		rest := len(diff) - maxDiff
		diff, note = strings.ToValidUTF8(diff[:maxDiff], ""), fmt.Sprintf("the diff is cut: %d bytes follow", rest)
	}
	return diff, note
}

func (a *assignment) label(v *version) string {
	if v == nil {
		return os.DevNull
	}
	return a.Path
}

func (v *version) text() string {
	if v == nil {
		return ""
	}
	return string(v.content)
}

// isPublic reports whether all users may read the file. A file that does not exist is
// public.
func (v *version) isPublic() bool { return v == nil || v.Perm&0o004 != 0 }

// isPublicDir reports whether all users can access the files of a directory.
func isPublicDir(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == "/" {
			return true
		}
	}
}

// isText reports whether a content is text, for which a diff is useful.
func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }
