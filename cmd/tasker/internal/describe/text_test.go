package describe

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/table"
)

func TestNames(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 9 {
		names = append(names, fmt.Sprintf("web-%d.example.net", i))
	}
	if got, want := table.Names(names), "web-0.example.net … web-8.example.net"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := table.Names(names[:8]), strings.Join(names[:8], " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestShortTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 2, 10, 0, 0, 0, time.Local)
	for want, ago := range map[string]time.Duration{
		"09:00:30": time.Hour - 30*time.Second, "00:00:00": 10 * time.Hour, "03-01 23:59": 10*time.Hour + time.Second,
		"01-01 10:00": 60 * 24 * time.Hour, "2025-12-31": 61 * 24 * time.Hour, "2025-03-02": 365 * 24 * time.Hour,
	} {
		if got := ShortTime(now.Add(-ago), now); got != want {
			t.Errorf("%v ago: %s, want %s", ago, got, want)
		}
	}
	if got := fmt.Sprint(ShortTime(time.Time{}, now)); got != "" {
		t.Errorf("zero time: %s", got)
	}
}

// at is a time so many milliseconds into the task.
func at(ms int) *time.Time {
	t := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond)
	return &t
}
