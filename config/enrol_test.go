package config_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker/config"
)

// loadEnrolled loads the configuration of an enrolled agent.
func loadEnrolled(t *testing.T, content string, e config.Enrolled) (*config.Agent, error) {
	t.Helper()
	a, _, err := config.LoadAgent(config.Source{File: write(t, content), Env: env}, func(string, *config.Agent) (config.Enrolled, error) { return e, nil })
	return a, err
}

func enrolled() config.Enrolled {
	return config.Enrolled{File: "/d/identity.json", Endpoint: "web-1", Servers: []config.URI{"https://cp:8888", "amqps://mq/tasker"}}
}

func TestEnrolledAgentNeedsNoEndpointAndServer(t *testing.T) {
	t.Parallel()
	for _, content := range []string{
		"data_dir: /d\n",
		"server:\n",
		"endpoint: web-1\n",
		"server: {uri: \"https://CP:8888/\"}\n",
		"server: {uri: \"amqps://web-9:hunter2@mq:5671/tasker\"}\n",
		"server: {token_file: /none}\n", // An enrolled agent does not need it.
	} {
		a, err := loadEnrolled(t, content, enrolled())
		if err != nil || a.Endpoint != "web-1" || a.Server.URI == "" {
			t.Errorf("%q: %+v, %v", content, a, err)
		}
	}
	if a, err := loadEnrolled(t, "", enrolled()); err != nil || a.Server.URI != "amqps://mq/tasker" {
		t.Errorf("connects to %s, %v", a.Server.URI, err)
	}
	// An agent that enrols when it starts may get its name then.
	if a, err := loadEnrolled(t, "", config.Enrolled{File: "enrol.yaml", Servers: []config.URI{"https://cp:8888"}}); err != nil || a.Endpoint != "" {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestAgentContradictsItsIdentity(t *testing.T) {
	t.Parallel()
	for _, tt := range []badConfig{
		{"another name", "data_dir: /d\nendpoint: web-2\n", 2, "endpoint", `is "web-2", but according to /d/identity.json this server is "web-1"; remove the key`},
		{"another server", "endpoint: web-1\nserver: {uri: \"http://cp:8888\"}\n", 2, "server.uri", "enrolled at https://cp:8888"},
		{"another port", "server:\n  uri: https://cp\n", 2, "server.uri", "--force"},
		{"another vhost", "server:\n  uri: amqps://u:hunter2@mq/other\n", 2, "server.uri", "remove the key"},
		{"no such CA", "server: {ca_file: /none}\n", 1, "server.ca_file", "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := loadEnrolled(t, tt.content, enrolled())
			tt.check(t, err)
		})
	}
}

func TestAgentWithoutIdentity(t *testing.T) {
	t.Parallel()
	_, err := agent(t, "data_dir: /d\n")
	for _, help := range []string{"not enrolled", "tasker-agent enrol --server URL --token TOKEN", "tasker enrol-token create", "endpoint: loadbalancer-1"} {
		if err == nil || !strings.Contains(err.Error(), help) {
			t.Errorf("%q is not in: %v", help, err)
		}
	}
	broken := errors.New("broken")
	_, _, err = config.LoadAgent(config.Source{File: write(t, "endpoint: web-1")}, func(string, *config.Agent) (config.Enrolled, error) { return config.Enrolled{}, broken })
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestLoadEnrol(t *testing.T) {
	t.Parallel()
	got, err := config.LoadEnrol(config.Source{File: write(t, "server: https://cp:8888\ntoken: ${PORT}\nendpoint: web-1\n"), Env: env})
	want := &config.Enrol{Server: "https://cp:8888", Token: "9999", Endpoint: "web-1"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if _, err := config.LoadEnrol(config.Source{File: filepath.Join(t.TempDir(), "enrol.yaml")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for _, tt := range []badConfig{
		{"no server", "token: hunter2\n", 1, "server", "is missing"},
		{"no URL", "token: hunter2\nserver: cp\n", 2, "server", "https://HOST:PORT"},
		{"no token", "server: http://cp\n", 1, "token", "tasker enrol-token create"},
		{"two tokens", "server: http://cp\ntoken: hunter2 hunter2\n", 2, "token", "one word"},
		{"bad name", "server: http://cp\ntoken: hunter2\nendpoint: Web\n", 3, "endpoint", `"Web"`},
		{"no such CA", "server: http://cp\ntoken: hunter2\nca_file: /none\n", 3, "ca_file", "no such file"},
		{"unknown key", "server: http://cp\ntoken: hunter2\nname: web\n", 3, "name", "known here: ca_file, endpoint, server, token"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := config.LoadEnrol(config.Source{File: write(t, tt.content), Env: env})
			tt.check(t, err)
		})
	}
}
