package tasker_test

import (
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

// A selector that is accepted and the same selector with a further requirement never match
// more than it.
func FuzzParseSelector(f *testing.F) {
	for _, seed := range []string{"role=web", "role=web,zone!=b", "!gpu", "role==web", "a=b,", "=", "!=", "zone!=", " a = b "} {
		f.Add(seed, "role", "web")
	}
	f.Fuzz(func(t *testing.T, text, key, value string) {
		s, err := tasker.ParseSelector(text)
		if err != nil {
			return
		}
		if len(s) == 0 {
			t.Errorf("%q has no requirement, so it matches everything", text)
		}
		more, err := tasker.ParseSelector(text + ",role=web")
		if err != nil {
			t.Fatalf("%q is accepted, but not with a further requirement: %v", text, err)
		}
		if labels := map[string]string{key: value}; more.Matches(labels) && !s.Matches(labels) {
			t.Errorf("%q with a further requirement matches %v, without it it does not", text, labels)
		}
	})
}

// A duration that is accepted is not negative, and is the same after it was written.
func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"30s", "1m30s", "90", "1.5", "-1", "1e3", "9223372036854775807", "", "1h-1m", ".5", "+1s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := tasker.ParseDuration(text)
		if err != nil {
			return
		}
		if d < 0 {
			t.Errorf("%q is %s", text, d)
		}
		if again, err := tasker.ParseDuration(d.String()); err != nil || again != d {
			t.Errorf("%q is %s, which is read as %s, %v", text, d, again, err)
		}
	})
}
