package pkgmanager

import "testing"

func TestVersions(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"1.0.0-1": "1.0.0", "1.0.0": "1.0.0", "1:1.0.0~rc1-1.2": "1.0.0~rc1", "0.0.0.4-1": "0.0.0.4",
	} {
		if got := Short(version); got != want {
			t.Errorf("Short(%s) = %s, want %s", version, got, want)
		}
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, wanted := range []string{"1:1.0-2", "1.0-2", "1.0"} {
		if !Matches("1:1.0-2", wanted) {
			t.Errorf("1:1.0-2 is not %s", wanted)
		}
	}
	for _, wanted := range []string{"", "1", "1:1.0", "1.0-1", "1.0-2.1"} {
		if Matches("1:1.0-2", wanted) || Matches("", wanted) && wanted != "" {
			t.Errorf("1:1.0-2 is %s", wanted)
		}
	}
}
