package tasker_test

import (
	"encoding/json"
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

func TestAmount(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		of20 int
		out  string
	}{
		`3`: {3, `3`}, `"3"`: {3, `3`}, `0`: {0, `0`}, `"25%"`: {5, `"25%"`}, `"0%"`: {0, `"0%"`}, `"100%"`: {20, `"100%"`}, `"9%"`: {1, `"9%"`},
	} {
		var a tasker.Amount
		if err := json.Unmarshal([]byte(in), &a); err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		out, err := json.Marshal(a)
		if err != nil || a.Of(20) != want.of20 || string(out) != want.out {
			t.Errorf("%s is %d of 20 and written as %s, %v; want %+v", in, a.Of(20), out, err, want)
		}
	}
	for _, in := range []string{`-1`, `"101%"`, `1.5`, `"25"x`, `""`, `"%"`, `"-1%"`, `"+2"`, `"+2%"`, `"-0"`, `" 2"`, `"1_000"`, `"9223372036854775808"`, `true`, `{}`, `[1]`} {
		if err := json.Unmarshal([]byte(in), new(tasker.Amount)); err == nil {
			t.Errorf("%s is accepted", in)
		}
	}
}
