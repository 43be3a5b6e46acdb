package file_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

// The result does not contain the diff of a file that other users cannot read.
func TestDiffOfSecretFile(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		old  os.FileMode
		more string
		dir  os.FileMode
		want bool
	}{
		"readable by all":       {0o644, ``, 0o755, true},
		"readable by its group": {0o640, ``, 0o755, false},
		"private before":        {0o600, `,"mode":"0644"`, 0o755, false},
		"private after":         {0o644, `,"mode":"0600"`, 0o755, false},
		"in a closed directory": {0o644, ``, 0o750, false},
		"requested":             {0o600, `,"diff":true`, 0o750, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.writeFile("a", "old secret\n", tt.old)
			if err := os.Chmod(f.dir, tt.dir); err != nil {
				t.Fatal(err)
			}
			payload := f.payload("a", `"content":"new secret\n"`+tt.more)
			for i, got := range []result{f.dryRun(payload), f.perform(payload), f.undo(payload)} {
				b, err := json.Marshal(got.Outcome)
				if err != nil || got.err != nil {
					t.Fatal(err, got.err)
				}
				if !got.Changed || strings.Contains(string(b), "secret") != tt.want || strings.Contains(got.Note, "there is no diff") == tt.want {
					t.Errorf("step %d: %s", i, b)
				}
			}
		})
	}
}

func TestDiffLimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if err := os.WriteFile(filepath.Join(f.dir, "binary"), []byte{0, 1, 2}, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := f.perform(f.payload("binary", `"content":"text"`)); got.err != nil || got.Diff != "" || got.Note != "there is no diff: the file is binary" {
		t.Errorf("binary: %+v", got)
	}
	f.writeFile("long", strings.Repeat("<\n", 100_000), 0o644)
	got := f.perform(f.payload("long", `"content":"short"`))
	b, err := json.Marshal(got.Outcome)
	if err != nil || got.err != nil || !strings.Contains(got.Note, "the diff is cut") || len(b) > tasker.MaxResult {
		t.Errorf("long: %d bytes, %s, %v", len(b), got.Note, got.err)
	}
	f.writeFile("longer", strings.Repeat("a\n", 1_000_000), 0o644)
	if got := f.perform(f.payload("longer", `"content":"short"`)); got.err != nil || got.Diff != "" || !strings.Contains(got.Note, "more than 1024 KiB") {
		t.Errorf("longer: %+v", got)
	}
}
