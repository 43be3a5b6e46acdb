package agent

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/MatthiasWiesner/tasker"
)

// Writes and deliveries alternate at random. A small output arrives as a whole, a large
// one with its head and tail, each at its offset.
func TestOutputKeepsHeadAndTail(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pattern := make([]byte, 251)
		for i := range pattern {
			pattern[i] = byte(i + 1)
		}
		var all, got []byte
		receive := func(chunks []tasker.Chunk) {
			for _, c := range chunks {
				end := c.Offset + int64(len(c.Data))
				if end > int64(len(all)) {
					t.Fatal("a chunk ends after the end of the output")
				}
				got = append(got, make([]byte, max(0, end-int64(len(got))))...)
				copy(got[c.Offset:end], c.Data)
			}
		}
		out := newOutput(0, func() {})
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				n := rapid.SampledFrom([]int{0, 1, 100, 5_000, 70_000, 130_000, 300_000}).Draw(t, "n")
				p := bytes.Repeat(pattern, n/len(pattern)+2)[len(all)%len(pattern):][:n]
				all = append(all, p...)
				if w, err := out.Write(p); w != n || err != nil {
					t.Fatal(w, err)
				}
			},
			"deliver": func(t *rapid.T) {
				var u tasker.Update
				out.fill(&u)
				if u.OutputBytes != int64(len(all)) {
					t.Fatalf("%d bytes, not %d", u.OutputBytes, len(all))
				}
				if rapid.Bool().Draw(t, "arrives") {
					receive(u.Output)
					out.discard(u.Output)
					if rapid.Bool().Draw(t, "twice") {
						out.discard(u.Output)
					}
				}
			},
		})
		var u tasker.Update
		out.close(&u)
		receive(u.Output)
		if _, err := out.Write([]byte("late")); err != nil || out.total != int64(len(all)) {
			t.Fatalf("a write after the end: %v, %d bytes", err, out.total)
		}
		if u.OutputTruncated != (len(all) > outputHead+outputTail) {
			t.Fatalf("truncated is %v at %d bytes", u.OutputTruncated, len(all))
		}
		want := bytes.Clone(all)
		if cut := len(all) - outputTail; cut > outputHead {
			clear(want[outputHead:cut])
		}
		if !bytes.Equal(want, got) {
			t.Fatalf("head and tail of %d bytes were not kept", len(all))
		}
	})
}

func TestOutputContinuesAtOffset(t *testing.T) {
	t.Parallel()
	for _, from := range []int64{5, outputHead - 1, outputHead + 7} {
		out := newOutput(from, func() {})
		_, _ = out.Write([]byte("abc"))
		var u tasker.Update
		out.close(&u)
		var data []byte
		for _, c := range u.Output {
			data = append(data, c.Data...)
		}
		if u.Output[0].Offset != from || !bytes.Equal(data, []byte("abc")) || u.OutputBytes != from+3 || !u.OutputTruncated {
			t.Errorf("from %d: %+v", from, u)
		}
	}
}
