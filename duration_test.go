package tasker_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

func TestDurationIsReadFromTextAndSeconds(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{
		`"30s"`: 30 * time.Second, `30`: 30 * time.Second, `1.5`: 1500 * time.Millisecond,
		`"90"`: 90 * time.Second, `"1h30m"`: 90 * time.Minute, `0`: 0,
	} {
		var d tasker.Duration
		if err := json.Unmarshal([]byte(in), &d); err != nil || d.D() != want {
			t.Errorf("%s is read as %s, %v; want %s", in, d, err, want)
		}
	}
	for _, in := range []string{`-1`, `"-1s"`, `"soon"`, `""`, `true`, `{}`, `1e400`} {
		var d tasker.Duration
		if err := json.Unmarshal([]byte(in), &d); err == nil {
			t.Errorf("%s is read as %s, want an error", in, d)
		}
	}
	if b, err := json.Marshal(tasker.Duration(90 * time.Second)); err != nil || string(b) != `"1m30s"` {
		t.Errorf("written as %s, %v", b, err)
	}
}
