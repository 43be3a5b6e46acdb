package table

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFit(t *testing.T) {
	t.Parallel()
	list := func() []*Column {
		return []*Column{
			{Head: "NAME", Cells: []string{"web-1", "database-1"}},                                      // 10
			{Head: "EMPTY", Rank: 1, Cells: []string{"", ""}},                                           // empty
			{Head: "OPTIONAL", Rank: 4, Optional: true, MinWidth: 6, Cells: []string{"12345678", "1"}},  // 6 to 8
			{Head: "VERSION", Rank: 3, Cells: []string{"1.0", "1.1"}},                                   // 7
			{Head: "LABELS", Rank: 2, MinWidth: 8, Cells: []string{"role=web zone=a", "role=database"}}, // 8 to 15
		}
	}
	tests := []struct {
		width      int
		want       []string // first row, by column
		incomplete string
	}{
		{43, []string{"NAME web-1", "OPTIONAL 12345678", "VERSION 1.0", "LABELS role=web zone=a"}, ""},
		{42, []string{"NAME web-1", "OPTIONAL 123456…", "VERSION 1.0", "LABELS role=web zone=a"}, "OPTIONAL"},
		{41, []string{"NAME web-1", "OPTIONAL 12345…", "VERSION 1.0", "LABELS role=web zone=a"}, "OPTIONAL"},
		{40, []string{"NAME web-1", "VERSION 1.0", "LABELS role=web zone=a"}, "OPTIONAL"},
		{33, []string{"NAME web-1", "VERSION 1.0", "LABELS role=web zone…"}, "OPTIONAL LABELS"},
		{27, []string{"NAME web-1", "VERSION 1.0", "LABELS role=we…"}, "OPTIONAL LABELS"},
		{26, []string{"NAME web-1", "LABELS role=web zone=a"}, "OPTIONAL VERSION"},
		{19, []string{"NAME web-1", "LABELS role=we…"}, "OPTIONAL VERSION LABELS"},
		{18, []string{"NAME web-1"}, "OPTIONAL VERSION LABELS"},
	}
	for _, tt := range tests {
		shown, incomplete := Fit(list(), tt.width)
		var got []string
		for _, c := range shown {
			got = append(got, c.Head+" "+c.Cells[0])
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%d columns (-want +got):\n%s", tt.width, diff)
		}
		if got := strings.Join(incomplete, " "); got != tt.incomplete {
			t.Errorf("%d columns: incomplete %q, want %q", tt.width, got, tt.incomplete)
		}
	}
}

// TestFit_one_line_per_row: every row has one line, however narrow the terminal.
func TestFit_one_line_per_row(t *testing.T) {
	t.Parallel()
	for width := MinTextWidth; width < 200; width++ {
		shown, _ := Fit([]*Column{
			{Head: "NAME", Cells: []string{"a", strings.Repeat("日", 100)}},
			{Head: "LABELS", Rank: 1, MinWidth: 16, Cells: []string{strings.Repeat("l", 50), ""}},
			{Head: "TYPES", Rank: 2, MinWidth: 16, Optional: true, Cells: []string{strings.Repeat("t", 50), "ping"}},
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

func TestFit_wraps_columns(t *testing.T) {
	t.Parallel()
	list := []*Column{
		{Head: "NAME", Cells: []string{"a", "b"}},
		{Head: "RESPONSES", Rank: 1, MinWidth: 12, Wraps: true, Cells: []string{"968 succeeded, 3 failed", "971 succeeded"}},
	}
	shown, incomplete := Fit(list, 22)
	if want := []string{"968 succeeded,\n3 failed", "971 succeeded"}; !cmp.Equal(want, shown[1].Cells) || incomplete != nil {
		t.Errorf("got %q, incomplete %v", shown[1].Cells, incomplete)
	}
}

func TestFit_no_rows(t *testing.T) {
	t.Parallel()
	if shown, incomplete := Fit([]*Column{{Head: "NAME"}, {Head: "LABELS", Rank: 1}}, 80); len(shown) != 2 || incomplete != nil {
		t.Errorf("%d columns, incomplete %v", len(shown), incomplete)
	}
}
