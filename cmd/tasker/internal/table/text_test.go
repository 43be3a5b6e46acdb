package table

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFitText(t *testing.T) {
	t.Parallel()
	const room = 24
	long := strings.Repeat("word ", 30)
	tests := []struct {
		name, text string
		room       int
		want       string
		complete   bool
	}{
		{"blank", " \n", room, "", true},
		{"short", "exit code 3", room, "exit code 3", true},
		{"two rows", "the unit has not started: exit code 3", room, "the unit has not\nstarted: exit code 3", true},
		{"two lines", "\r\none\r\n\ttwo\n", room, "one\n    two", true},
		{"long", long, room, "word word word word wor…", false},
		{"many lines", "one\ntwo\nthree\nfour", room, "one …", false},
		{"many lines, the first just fits", strings.Repeat("x", room) + "\ntwo\nthree\nfour", room, strings.Repeat("x", room-1) + "…", false},
		{"a long word", strings.Repeat("x", room+1), room, strings.Repeat("x", room-1) + "…", false},
		{"wide characters", strings.Repeat("日本", 10), room, strings.Repeat("日本", 5) + "日…", false},
		{"long without a width", long, 0, strings.TrimSpace(long), true},
		{"lines without a width", "one\ntwo", 0, "one …", false},
		{"control sequences", "\x1b[2Jboo\u202e!", room, "boo!", true},
	}
	for _, tt := range tests {
		if got, complete := FitText(tt.text, tt.room); got != tt.want || complete != tt.complete {
			t.Errorf("%s: %q, %t; want %q, %t", tt.name, got, complete, tt.want, tt.complete)
		}
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		"":                      {""},
		"one two":               {"one two"},
		"one two three":         {"one two", "three"},
		"  one two three":       {"  one two", "  three"},
		"see /a/long/path here": {"see", "/a/long/path", "here"},
		"    /a/long/path":      {"    /a/long/path"},
		"日本語 日本語":               {"日本語", "日本語"},
	} {
		if diff := cmp.Diff(want, Wrap(line, 10)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
}
