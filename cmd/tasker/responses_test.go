package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFit(t *testing.T) {
	t.Parallel()
	const room = 24
	long := strings.Repeat("word ", 30)
	tests := []struct {
		name, text string
		room       int
		want       string
		whole      bool
	}{
		{"nothing", " \n", room, "", true},
		{"short", "exit code 3", room, "exit code 3", true},
		{"a few words more", "the unit has not started: exit code 3", room, "the unit has not\nstarted: exit code 3", true},
		{"a few lines", "\r\none\r\n\ttwo\n", room, "one\n    two", true},
		{"long", long, room, "word word word word wor…", false},
		{"many lines", "one\ntwo\nthree\nfour", room, "one …", false},
		{"many lines of which the first just fits", strings.Repeat("x", room) + "\ntwo\nthree\nfour", room, strings.Repeat("x", room-1) + "…", false},
		{"a long word", strings.Repeat("x", room+1), room, strings.Repeat("x", room-1) + "…", false},
		{"wide characters", strings.Repeat("日本", 10), room, strings.Repeat("日本", 5) + "日…", false},
		{"long for a program", long, 0, strings.TrimSpace(long), true},
		{"lines for a program", "one\ntwo", 0, "one …", false},
		{"what would control the terminal", "\x1b[2Jboo\u202e!", room, "boo!", true},
	}
	for _, tt := range tests {
		if got, whole := fit(tt.text, tt.room); got != tt.want || whole != tt.whole {
			t.Errorf("%s: %q, %t; want %q, %t", tt.name, got, whole, tt.want, tt.whole)
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
		if diff := cmp.Diff(want, wrap(line, 10)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
}

func TestNotes(t *testing.T) {
	t.Parallel()
	var n notes
	n.add("web-1", "no route to the mirror\n\n  at all\n")
	n.add("web-2", "disk full")
	n.add("web-3", "no route to the mirror\n\n  at all\n")
	want := `
web-1 web-3:
  no route to
  the mirror

    at all

web-2:
  disk full
`
	if diff := cmp.Diff(want, n.render(14)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
