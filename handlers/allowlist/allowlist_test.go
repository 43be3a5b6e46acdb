package allowlist_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/allowlist"
)

func TestNames(t *testing.T) {
	t.Parallel()
	names := allowlist.Names{Key: "handlers.package.allow", Patterns: []string{"nginx", "app-*", "lib[ab]"}}
	if err := names.Check(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nginx", "app-", "app-web", "liba"} {
		if err := names.Refuse(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "nginx-core", "app", "an-app-web", "libc", "app-*/x"} {
		var reject *handlers.RejectError
		if err := names.Refuse(name); !errors.As(err, &reject) || !strings.Contains(err.Error(), `add "`+name+`"`) || !strings.Contains(err.Error(), "handlers.package.allow") {
			t.Errorf("%s: %v, want a rejection that says what to add", name, err)
		}
	}
	if err := (allowlist.Names{}).Refuse("nginx"); err == nil {
		t.Error("without patterns nginx is allowed")
	}
}

func TestPatternThatIsNone(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"", "app-[", "[]a]"} {
		err := allowlist.Names{Key: "handlers.package.allow", Patterns: []string{"nginx", p}}.Check()
		if err == nil || !strings.HasPrefix(err.Error(), "handlers.package.allow[1]: ") {
			t.Errorf("%q: %v", p, err)
		}
	}
}
