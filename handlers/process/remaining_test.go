package process_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers/process"
)

// daemons returns the beginning of a script that can start programs in the background:
// "start NAME" starts one that SIGTERM ends, and "resist NAME" one that ignores SIGTERM.
func daemons(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.Symlink("/bin/sleep", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return "cd " + dir + `
running() { until [ "$(cat /proc/$1/comm)" = "$2" ]; do :; done; }
start() { setsid "./$1" 1000 & running $! "$1"; }
resist() { setsid sh -c 'trap "" TERM; exec "./$0" 1000' "$1" & running $! "$1"; }
`
}

func TestRemainingProcessesAreCountedAndNamed(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, script, want string }{
		{"none", "true", ""},
		{"ended before", "start one; kill $!; wait", ""},
		{"one", "start one", "ended 1 process (one) that the command left running"},
		{"two of one name", "start one; start one; exit 3", "ended 2 processes (one) that the command left running"},
		{"killed", "resist two", "killed 1 process (two) that the command left running, because SIGTERM did not end them within 200ms"},
		{"some killed", "start one; resist two", "ended 2 processes (one, two) that the command left running; killed 1 process (two) of them, because SIGTERM did not end them within 200ms"},
		{"many", "for i in a b c d e f g h i j k l; do start $i; done", "ended 12 processes (a, b, c, d, e, f, g, h, i, j) that the command left running"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			prefix := daemons(t, "one", "two", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l")
			withAndWithoutCgroup(t, func(t *testing.T, f *fixture) {
				exit, err := f.Run(t.Context(), f.sh(prefix+tt.script))
				if got := exit.Remaining.Note(); err != nil || got != tt.want {
					t.Errorf("got %q, %v, want %q", got, err, tt.want)
				}
			})
		})
	}
}

// A process chooses its own name.
func TestNoteHasNoControlCharacters(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "")
	exit, err := f.Run(t.Context(), f.sh(`setsid sh -c 'printf "a)\033[2J\nb" >/proc/$$/comm; sleep 1000; :' &
until grep -q "a)" /proc/$!/comm; do :; done`))
	note := exit.Remaining.Note()
	if err != nil || !strings.Contains(note, "a) b") || strings.ContainsAny(note, "\x1b\n") {
		t.Errorf("got %q, %v", note, err)
	}
}

func TestCancelledCommandHasNoNote(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "")
	exit, err := f.cancelWhen("ready", f.sh(daemons(t, "one")+"start one; echo ready; wait"))
	if err == nil || exit.Remaining != nil {
		t.Errorf("got %+v, %v", exit, err)
	}
}

func TestJoinNotes(t *testing.T) {
	t.Parallel()
	if got := process.JoinNotes("", "a", "", "b"); got != "a; b" {
		t.Errorf("got %q", got)
	}
}
