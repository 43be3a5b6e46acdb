package identity_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/identity"
)

func TestLoadInvalid(t *testing.T) {
	t.Parallel()
	good := fmt.Sprintf(`{"endpoint":"web-1","control_plane":"https://cp:8888","server":"https://cp:8888","secret":"%s","keys":["%s="]}`,
		strings.Repeat("S", 43), strings.Repeat("A", 43))
	for name, tt := range map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"valid":              {good, 0o600, ""},
		"readable by others": {good, 0o640, "chmod 600"},
		"empty":              {"", 0o600, "it is damaged"},
		"cut off":            {good[:60], 0o600, "it is damaged"},
		"twice":              {good + good, 0o600, "more after its end"},
		"an unknown key":     {strings.Replace(good, "{", `{"x":1,`, 1), 0o600, "unknown field"},
		"no name":            {strings.Replace(good, "web-1", "", 1), 0o600, "endpoint"},
		"a short secret":     {strings.Replace(good, "SSS", "", 1), 0o600, "secret"},
		"no key":             {good[:strings.Index(good, `,"keys"`)] + "}", 0o600, "incomplete"},
		"a short key":        {strings.Replace(good, strings.Repeat("A", 43)+"=", "AAAA", 1), 0o600, "bytes"},
		"a strange server":   {strings.Replace(good, `"server":"https:`, `"server":"ftp:`, 1), 0o600, "amqp(s)"},
		"no control plane":   {strings.Replace(good, "https://cp:8888", "cp", 1), 0o600, "control_plane"},
		"no certificate":     {strings.Replace(good, "{", `{"ca":"x",`, 1), 0o600, "PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(identity.File(dir), []byte(tt.content), tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := identity.Load(dir)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), identity.File(dir)) || strings.Contains(err.Error(), "SSS") {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
		})
	}
	dir := t.TempDir()
	if err := os.Symlink("elsewhere", identity.File(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Load(dir); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a link: %v", err)
	}
}

func TestSecretIsHidden(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	i, err := identity.Enrol(t.Context(), t.TempDir(), p.request("web-1"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("text", "identity", i, "secret", i.Secret)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("json", "identity", i, "secret", i.Secret)
	fmt.Fprintf(&b, "%v %+v %#v %s %q", i, i, *i, i.Secret, i.Secret)
	if strings.Contains(b.String(), i.Secret.Reveal()) {
		t.Errorf("the secret is shown in:\n%s", &b)
	}
}
