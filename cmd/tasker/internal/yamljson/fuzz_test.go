package yamljson_test

import (
	"encoding/json"
	"testing"

	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/yamljson"
)

// A document that is accepted gives valid JSON of at most the size of a request, and the
// same JSON each time.
func FuzzConvert(f *testing.F) {
	for _, seed := range []string{
		"type: command\npayload:\n  argv: [/bin/true, \"1.10\"]\n  n: 1.10\n",
		"a: &x {b: 1}\nc: {<<: *x, d: [*x, ~, .inf, 0x1F, 00123]}\n",
		"- |\n  text\n- >-\n  folded\n- !!str 1\n- 2026-03-01\n",
		"{\"a\": [1e3, true, null, \"\\ud83d\\ude00\"]}",
		"a: 1\na: 2\n---\nb: 1\n",
		"a: &a [*a]\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		out, err := yamljson.Convert(content)
		if err != nil {
			return
		}
		if !json.Valid(out) || len(out) > 4<<20 {
			t.Fatalf("%q gives %d bytes that are not a request: %.200q", content, len(out), out)
		}
		if again, err := yamljson.Convert(content); err != nil || string(again) != string(out) {
			t.Errorf("%q gives %q and then %q (%v)", content, out, again, err)
		}
	})
}
