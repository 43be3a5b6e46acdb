package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/config"
)

func TestShippedFiles(t *testing.T) {
	t.Parallel()
	env := func(name string) (string, bool) {
		v, ok := map[string]string{
			"TASKER_DATABASE_URI":      "mysql://tasker:secret@db:3306/tasker?tls=true",
			"TASKER_MESSAGE_QUEUE_URI": "amqps://tasker:secret@broker:5671/tasker",
		}[name]
		return v, ok
	}
	for _, mode := range []string{"development", "production"} {
		if _, file, err := config.LoadControlPlane(config.Source{Mode: mode, Env: env}, handlers()); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	identity := func(string, *config.Agent) (config.Enrolled, error) { return enrolled(), nil }
	if c, file, err := config.LoadAgent(config.Source{Mode: "production", Env: env}, identity); err != nil || c.Metrics.Port != 9464 {
		t.Errorf("%s: %+v, %v", file, c, err)
	}
	// Only the token, which the control plane writes, may be missing.
	var problems config.Problems
	_, file, err := config.LoadAgent(config.Source{Mode: "development", Env: env}, nil)
	if !errors.As(err, &problems) || len(problems) != 1 || problems[0].Key != "server.token_file" {
		t.Errorf("%s: %v", file, err)
	}
}

func TestMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"staging", "../development", "agent/development"} {
		_, _, err := config.LoadControlPlane(config.Source{Mode: mode}, handlers())
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("mode %q", mode)) {
			t.Errorf("mode %q: got error %v", mode, err)
		}
	}
}

// By default, the file of the package is read, even if it is invalid.
func TestResolveSource(t *testing.T) {
	t.Parallel()
	packaged := filepath.Join(t.TempDir(), "config.yaml")
	none := config.Source{Packaged: packaged}
	if _, file, err := config.LoadControlPlane(none, handlers()); err != nil || !strings.Contains(file, "development.config.yaml") {
		t.Errorf("without a package: %s, %v", file, err)
	}
	if err := os.WriteFile(packaged, []byte("task_types: [BAD]"), 0o600); err != nil {
		t.Fatal(err)
	}
	var problems config.Problems
	if _, file, err := config.LoadControlPlane(none, handlers()); !errors.As(err, &problems) || file != packaged {
		t.Errorf("with a package: %s, %v", file, err)
	}
	for _, source := range []config.Source{{Mode: "production", Packaged: packaged}, {File: "mine.yaml", Packaged: packaged}} {
		if got := source.Resolve(); got.File == packaged || got.Mode == "development" {
			t.Errorf("%+v resolves to %+v", source, got)
		}
	}
}

func TestModeFileInWorkingDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("config", 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("config/staging.config.yaml", []byte("task_types: [backup]"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, file, err := config.LoadControlPlane(config.Source{Mode: "staging"}, handlers())
	if err != nil {
		t.Fatal(err)
	}
	if c.TaskTypes[0].Name != "backup" || file != filepath.Join("config", "staging.config.yaml") {
		t.Errorf("got %v from %s", c.TaskTypes, file)
	}
}

// Secrets are hidden however a configuration is printed.
func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	c, err := controlPlane(t, `
task_types: [ping]
database: {uri: "${DSN}"}
message_queue: {uri: "amqp://tasker:hunter2@127.0.0.1:5672/tasker"}
rabbitmq: {password: hunter2, apiurl: "http://localhost:15672/api"}
`)
	if err != nil {
		t.Fatal(err)
	}
	if c.Database.URI.Reveal() != "mysql://tasker:hunter2@db:3306/tasker?tls=true" {
		t.Errorf("Reveal returned %q", c.Database.URI.Reveal())
	}
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("text", "config", c, "uri", c.Database.URI, "password", c.RabbitMQ.Password)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("json", "config", c, "uri", c.Database.URI, "password", c.RabbitMQ.Password)
	marshalled, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(marshalled)
	fmt.Fprintf(&b, "%v %+v %#v %s %q %v", c, c, *c, c.Database.URI, c.RabbitMQ.Password, config.URI("mysql://a:hunter2@[x/"))
	if strings.Contains(b.String(), "hunter2") {
		t.Errorf("a password is shown in:\n%s", b.String())
	}
	if want := "mysql://tasker:********@db:3306/tasker?tls=true"; c.Database.URI.String() != want {
		t.Errorf("got %s, want %s", c.Database.URI, want)
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	c, err := config.LoadClient(config.Source{File: filepath.Join(t.TempDir(), "none.yaml")})
	if err != nil || c.URL != "" {
		t.Errorf("a missing file: %v, %v", c, err)
	}
	token := write(t, "abc\n")
	c, err = config.LoadClient(config.Source{File: write(t, "url: https://tasker.example.net\ntoken_file: "+token)})
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := c.Secret(); err != nil || secret.Reveal() != "abc" {
		t.Errorf("token %q, %v", secret.Reveal(), err)
	}
}

func TestByteOrderMark(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.yaml")
	for content, want := range map[string]string{
		"\ufeffurl: http://127.0.0.1:1\r\n": "",
		"\ufefftokn: x\n":                   file + ":1:1: tokn: unknown key",
		"\xff\xfeu\x00r\x00l\x00":           file + ": the file is in UTF-16; save it in UTF-8",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.LoadClient(config.Source{File: file})
		switch {
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: got error %v, want %s", content, err, want)
		case want == "" && (err != nil || c.URL.Reveal() != "http://127.0.0.1:1"):
			t.Errorf("%q: got %+v, %v", content, c, err)
		}
	}
}
