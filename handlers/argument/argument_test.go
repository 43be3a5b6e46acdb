package argument_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/argument"
)

func TestCheckAcceptsExactNamesOnly(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kind argument.Kind
		yes  []string
		no   []string
	}{
		"deb package": {
			argument.DebPackage(),
			[]string{"nginx", "g++", "libstdc++6", "python3.11", "0ad", "app-"},
			[]string{"", "app-*", "app-?", "^app", "app$", "app|x", "app=1", "app/stable", "task^", "~napp", "?name(app)", "-o", "--force", "./app.deb", "/app.deb", "App", "app:amd64", "app x", "app\n", "lib[0-9]", strings.Repeat("a", 256)},
		},
		"deb version": {
			argument.DebVersion(),
			[]string{"1", "1.2.3-1", "1:1.2.3~rc1-1+b2", "2.0+", "1.0-"},
			[]string{"", "1*", "1.0^", "/1/", "-1", "1 2", "1=2", "1_0", "a:1"},
		},
		"deb architecture": {argument.DebArch(), []string{"amd64", "kfreebsd-amd64", "any"}, []string{"", "*", "amd64=1", "-amd64"}},
		"rpm package": {
			argument.RPMPackage(),
			[]string{"nginx", "gcc-c++", "python3.11-pip", "NetworkManager", "java_sdk"},
			[]string{"", "app*", "app?", "app[1]", "@group", "@module:1/x", "/usr/bin/x", "-x", "app x", "app;x", "(a or b)", "app >= 1", "http://h/a.rpm", "{a,b}"},
		},
		"rpm version": {
			argument.RPMVersion(),
			[]string{"1.2.3", "1.2.3-1.el9", "1:1.2.3~rc1^git1-1.fc40_2"},
			[]string{"", "*", "1*", "1-2-3", "-1", "1 2", `1"),os.exit(`},
		},
		"rpm architecture": {argument.RPMArch(), []string{"x86_64", "noarch", "aarch64", "i686"}, []string{"", "*", "el9", "11"}},
		"unit": {
			argument.Unit(),
			[]string{"nginx.service", "app@1.service", `dev-disk\x2dby.device`, "a.b.timer"},
			[]string{"", "nginx", "*.service", "app-?.service", "[a].service", "/etc/x.service", "-H.service", "a b.service", "--user.service", "app.service\n"},
		},
	} {
		for _, text := range tt.yes {
			if err := tt.kind.Check(text); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, text := range tt.no {
			var reject *handlers.RejectError
			if err := tt.kind.Check(text); !errors.As(err, &reject) {
				t.Errorf("%s %q: %v", name, text, err)
			}
		}
	}
}
