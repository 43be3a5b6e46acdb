package table

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNotes(t *testing.T) {
	t.Parallel()
	var n Notes
	n.Add("web-1", "no route to the mirror\n\n  at all\n")
	n.Add("web-2", "disk full")
	n.Add("web-3", "no route to the mirror\n\n  at all\n")
	want := `
web-1 web-3:
  no route to
  the mirror

    at all

web-2:
  disk full
`
	if diff := cmp.Diff(want, n.Render(14)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
