package packaging

import (
	"os/exec"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, step := range []struct{ git, want string }{
		{"init --quiet", ""},
		{"commit --allow-empty --quiet -m one", "0.0.0.1"},
		{"commit --allow-empty --quiet -m two", "0.0.0.2"},
		{"tag v1.2.3", "1.2.3"},
		{"commit --allow-empty --quiet -m three", "1.2.3.1"},
		{"tag v1.3.0-rc1", "1.3.0-rc1"},
		{"tag other", "1.3.0-rc1"},
		{"commit --allow-empty --quiet -m four", "1.3.0-rc1.1"},
	} {
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=test", "-c", "user.email=test@localhost"}, strings.Fields(step.git)...)...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", step.git, err, out)
		}
		got, err := Version(t.Context(), root)
		if got != step.want && step.want != "" || (err == nil) != (step.want != "") {
			t.Errorf("after git %s: got %q (%v), want %q", step.git, got, err, step.want)
		}
	}
}
