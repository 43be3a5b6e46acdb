package allowlist_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/allowlist"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	list := allowlist.List{Key: "handlers.package.allow", Patterns: []string{"nginx", "app-*", "lib[ab]"}}
	if err := list.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nginx", "app-", "app-web", "liba"} {
		if err := list.Check(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "nginx-core", "app", "an-app-web", "libc", "app-*/x"} {
		var reject *handlers.RejectError
		if err := list.Check(name); !errors.As(err, &reject) || !strings.Contains(err.Error(), `add "`+name+`"`) || !strings.Contains(err.Error(), "handlers.package.allow") {
			t.Errorf("%s: %v, want a rejection that names the entry to add", name, err)
		}
	}
	if err := (allowlist.List{}).Check("nginx"); err == nil {
		t.Error("an empty list permits nginx")
	}
}

func TestValidateNamesTheMalformedPattern(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"", "app-[", "[]a]"} {
		err := allowlist.List{Key: "handlers.package.allow", Patterns: []string{"nginx", p}}.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), "handlers.package.allow[1]: ") {
			t.Errorf("%q: %v", p, err)
		}
	}
}
