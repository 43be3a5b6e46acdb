package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSqueeze(t *testing.T) {
	t.Parallel()
	list := func() []*column {
		return []*column{
			{head: "NAME", cells: []string{"web-1", "database-1"}},                                   // 10
			{head: "NOTHING", rank: 1, cells: []string{"", ""}},                                      // none
			{head: "SPARE", rank: 4, spare: true, least: 6, cells: []string{"12345678", "1"}},        // 6 to 8
			{head: "VERSION", rank: 3, cells: []string{"1.0", "1.1"}},                                // 7
			{head: "LABELS", rank: 2, least: 8, cells: []string{"role=web zone=a", "role=database"}}, // 8 to 15
		}
	}
	tests := []struct {
		width   int
		want    []string // of the first row, by column
		lacking string
	}{
		{43, []string{"NAME web-1", "SPARE 12345678", "VERSION 1.0", "LABELS role=web zone=a"}, ""},
		{42, []string{"NAME web-1", "SPARE 123456…", "VERSION 1.0", "LABELS role=web zone=a"}, "SPARE"},
		{41, []string{"NAME web-1", "SPARE 12345…", "VERSION 1.0", "LABELS role=web zone=a"}, "SPARE"},
		{40, []string{"NAME web-1", "VERSION 1.0", "LABELS role=web zone=a"}, "SPARE"},
		{33, []string{"NAME web-1", "VERSION 1.0", "LABELS role=web zone…"}, "SPARE LABELS"},
		{27, []string{"NAME web-1", "VERSION 1.0", "LABELS role=we…"}, "SPARE LABELS"},
		{26, []string{"NAME web-1", "LABELS role=web zone=a"}, "SPARE VERSION"},
		{19, []string{"NAME web-1", "LABELS role=we…"}, "SPARE VERSION LABELS"},
		{18, []string{"NAME web-1"}, "SPARE VERSION LABELS"},
	}
	for _, tt := range tests {
		shown, lacking := squeeze(list(), tt.width)
		var got []string
		for _, c := range shown {
			got = append(got, c.head+" "+c.cells[0])
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%d columns (-want +got):\n%s", tt.width, diff)
		}
		if got := strings.Join(lacking, " "); got != tt.lacking {
			t.Errorf("%d columns: %q is lacking, want %q", tt.width, got, tt.lacking)
		}
	}
}

// TestSqueezeNeverWraps: of the widest names as well, there is a line for each row.
func TestSqueezeNeverWraps(t *testing.T) {
	t.Parallel()
	for width := leastRoom; width < 200; width++ {
		shown, _ := squeeze([]*column{
			{head: "NAME", cells: []string{"a", strings.Repeat("日", 100)}},
			{head: "LABELS", rank: 1, least: 16, cells: []string{strings.Repeat("l", 50), ""}},
			{head: "TYPES", rank: 2, least: 16, spare: true, cells: []string{strings.Repeat("t", 50), "ping"}},
		}, width)
		sum := len(shown) - 1
		for _, c := range shown {
			sum += c.width()
		}
		if sum > width {
			t.Errorf("%d on a terminal of %d", sum, width)
		}
	}
}

func TestSqueezeWraps(t *testing.T) {
	t.Parallel()
	list := []*column{
		{head: "NAME", cells: []string{"a", "b"}},
		{head: "RESPONSES", rank: 1, least: 12, wraps: true, cells: []string{"968 succeeded, 3 failed", "971 succeeded"}},
	}
	shown, lacking := squeeze(list, 22)
	if want := []string{"968 succeeded,\n3 failed", "971 succeeded"}; !cmp.Equal(want, shown[1].cells) || lacking != nil {
		t.Errorf("got %q, lacking %v", shown[1].cells, lacking)
	}
}

func TestSqueezeOfNothing(t *testing.T) {
	t.Parallel()
	if shown, lacking := squeeze([]*column{{head: "NAME"}, {head: "LABELS", rank: 1}}, 80); len(shown) != 2 || lacking != nil {
		t.Errorf("%d columns, lacking %v", len(shown), lacking)
	}
}

func TestBrief(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 2, 10, 0, 0, 0, time.Local)
	for want, ago := range map[string]time.Duration{
		"09:00:30": time.Hour - 30*time.Second, "00:00:00": 10 * time.Hour, "03-01 23:59": 10*time.Hour + time.Second,
		"01-01 10:00": 60 * 24 * time.Hour, "2025-12-31": 61 * 24 * time.Hour, "2025-03-02": 365 * 24 * time.Hour,
	} {
		if got := brief(now.Add(-ago), now); got != want {
			t.Errorf("%v ago: %s, want %s", ago, got, want)
		}
	}
	if got := fmt.Sprint(brief(time.Time{}, now)); got != "" {
		t.Errorf("never: %s", got)
	}
}
