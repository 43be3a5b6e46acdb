package urlrules

import (
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	t.Parallel()
	allowed := []string{"https://hooks.example.net/tasker/", "http://10.0.0.7:8080"}
	for _, c := range []struct {
		url   string
		allow []string
		want  string // part of the error; empty if the URL is allowed
	}{
		{"https://example.net", nil, ""},
		{"https://example.net:8443/a?b=c&d", nil, ""},
		{"http://127.0.0.1:8080/", nil, ""},
		{"http://[::1]/", nil, ""},
		{"http://localhost/", nil, ""},
		{"http://example.net/", nil, "what gates.allow in"},
		{"http://localhost.example.net/", nil, "https://"},
		{"http://169.254.169.254/latest", nil, "https://"},
		{"", nil, "is no"},
		{"/hook", nil, "is no"},
		{"https:///hook", nil, "is no"},
		{"https://:443/hook", nil, "is no"},
		{"ftp://example.net/", nil, "is no"},
		{"file:///etc/passwd", nil, "is no"},
		{"mailto:a@example.net", nil, "is no"},
		{"https://example.net/\x00", nil, "is no"},
		{"https://me:secret@example.net/", nil, "user"},
		{"https://me@example.net/", nil, "user"},
		{"https://example.net/#a", nil, "#"},
		{"https://example.net/#", nil, "#"},
		{"https://example.net/a/../b", nil, ".."},
		{"https://example.net/a/%2e%2E/b", nil, ".."},
		{"https://example.net/a%2f..%5Cb", nil, ".."},
		{"https://example.net/" + strings.Repeat("x", maxURL), nil, "bytes"},

		{"https://hooks.example.net/tasker/", allowed, ""},
		{"https://hooks.example.net/tasker", allowed, ""},
		{"https://HOOKS.example.net:443/tasker/a?b", allowed, ""},
		{"http://10.0.0.7:8080/any", allowed, ""},
		{"http://10.0.0.7:8080", allowed, ""},
		{"https://hooks.example.net/taskers", allowed, "gates.allow"},
		{"https://hooks.example.net/", allowed, "gates.allow"},
		{"https://hooks.example.net/tasker%2fa", allowed, "gates.allow"},
		{"https://hooks.example.net:8443/tasker/", allowed, "gates.allow"},
		{"http://hooks.example.net/tasker/", allowed, "gates.allow"},
		{"https://hooks.example.net.evil.example/tasker/", allowed, "gates.allow"},
		{"http://10.0.0.7/", allowed, "gates.allow"},
		{"http://127.0.0.1/", allowed, "gates.allow"},
	} {
		r, err := New("gates.allow", c.allow)
		if err != nil {
			t.Fatal(err)
		}
		err = r.Check(c.url)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80q with %v: %v, want %q", c.url, c.allow, err, c.want)
		}
	}
	if _, err := New("gates.allow", []string{"hooks.example.net"}); err == nil || !strings.HasPrefix(err.Error(), `gates.allow: "hooks.example.net" is no`) {
		t.Errorf("a rule without a scheme: %v", err)
	}
}
