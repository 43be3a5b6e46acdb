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
	// maxDiff bounds a diff: a result may have 256 KiB, of JSON, in which a byte may
	// take six.
	maxDiff = 32 << 10
	// maxCompared bounds what is compared.
	maxCompared = 1 << 20
)

// diff is the unified diff of two versions, or why there is none.
func (j *job) diff(from, to *version) (diff, note string) {
	if from.contains(to.attrs()) {
		return "", ""
	}
	a, b := from.text(), to.text()
	shown := j.Diff || public(j.Path) && from.public() && to.public()
	switch {
	case !shown:
		return "", `the diff is left out: not everybody on the server can read the file; "diff": true in the payload has it all the same`
	case !isText(a) || !isText(b):
		return "", "there is no diff: the file is binary"
	case max(len(a), len(b)) > maxCompared:
		return "", fmt.Sprintf("there is no diff: the file has more than %d KiB", maxCompared>>10)
	}
	diff, err := udiff.ToUnified(j.label(from), j.label(to), a, udiff.Lines(a, b), udiff.DefaultContextLines)
	if err != nil {
		return "", "there is no diff: " + err.Error()
	}
	if len(diff) > maxDiff {
		rest := len(diff) - maxDiff
		diff, note = strings.ToValidUTF8(diff[:maxDiff], ""), fmt.Sprintf("the diff is cut: %d bytes follow", rest)
	}
	return diff, note
}

func (j *job) label(v *version) string {
	if v == nil {
		return os.DevNull
	}
	return j.Path
}

func (v *version) text() string {
	if v == nil {
		return ""
	}
	return string(v.content)
}

// public says whether everybody may read it; a file that is not there is no secret.
func (v *version) public() bool { return v == nil || v.Perm&0o004 != 0 }

// public says whether everybody can get at the files of a path's directory.
func public(path string) bool {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == "/" {
			return true
		}
	}
}

// isText: what is not may hold anything, and no diff helps.
func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }
