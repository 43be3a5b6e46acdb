package watch

import "testing"

func TestLastLine(t *testing.T) {
	t.Parallel()
	for out, want := range map[string]string{
		"": "", "\n\n": "", "one\ntwo\n": "two", "one\ntwo \r\n\n": "two", "50%\r60%\r70%": "70%", "a\n\x1b[31mred\n\x1b[0m": "red",
	} {
		if got := lastLine(out); got != want {
			t.Errorf("%q: %q, want %q", out, got, want)
		}
	}
}
