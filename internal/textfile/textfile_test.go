package textfile_test

import (
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/textfile"
)

func TestTrimMark(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{"": "", "a": "a", "\ufeffa": "a", "\ufeff\ufeffa": "\ufeffa", "a\ufeff": "a\ufeff", "\xef\xbb": "\xef\xbb"} {
		if got, err := textfile.TrimMark([]byte(content)); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	for _, content := range []string{"\xff\xfea\x00", "\xfe\xff\x00a"} {
		if got, err := textfile.TrimMark([]byte(content)); err == nil {
			t.Errorf("%q: %q", content, got)
		}
	}
}
