package config_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/config"
)

// handlers returns the names of the handlers in these tests.
func handlers() []string { return []string{"ping", "facts", "command", "script"} }

// write writes a configuration to a temporary file.
func write(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "test.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// env is the environment of the tests.
func env(name string) (string, bool) {
	v, ok := map[string]string{
		"PASSWORD": `s3:"cr} et`,
		"PORT":     "9999",
		"YAML":     "x\nauth: off\n",
		"NESTED":   "${PASSWORD}",
		"EMPTY":    "",
		"DSN":      "mysql://tasker:hunter2@db:3306/tasker?tls=true",
	}[name]
	return v, ok
}

func controlPlane(t *testing.T, content string) (*config.ControlPlane, error) {
	t.Helper()
	c, _, err := config.LoadControlPlane(config.Source{File: write(t, content), Env: env}, handlers())
	return c, err
}

func agent(t *testing.T, content string) (*config.Agent, error) {
	t.Helper()
	a, _, err := config.LoadAgent(config.Source{File: write(t, content), Env: env}, nil)
	return a, err
}

func TestControlPlane(t *testing.T) {
	t.Parallel()
	got, err := controlPlane(t, `
task_types:                      # strings or objects
  - ping
  - backup
  - {name: update-app, handler: script, timeout: 10m}
  - {name: uptime, handler: command, timeout: 90}
data_dir: /var/lib/tasker
api: {address: 127.0.0.1, port: "${PORT}", wait_for_endpoints_timeout: 5, auth: off}
database: {uri: "sqlite:tasker.db"}
message_queue: {uri: ""}
rabbitmq: {apiurl: "http://localhost:15672/api", username: guest, password: guest}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []tasker.TaskType{
		{Name: "ping", Handler: "ping"},
		{Name: "backup", Handler: "script"},
		{Name: "update-app", Handler: "script", Timeout: 10 * time.Minute},
		{Name: "uptime", Handler: "command", Timeout: 90 * time.Second},
	}
	if diff := cmp.Diff(want, got.Types()); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
	wantAPI := config.API{
		Address: "127.0.0.1", Port: 9999, WaitForEndpointsTimeout: tasker.Duration(5 * time.Second),
		LostAfter: tasker.Duration(time.Hour), Heartbeat: tasker.Duration(10 * time.Second), Auth: false,
		TLS: config.TLS{Mode: "auto"},
	}
	if diff := cmp.Diff(wantAPI, got.API); diff != "" {
		t.Errorf("api (-want +got):\n%s", diff)
	}
}

// An API that listens for other machines uses https by default.
func TestSelfCertified(t *testing.T) {
	t.Parallel()
	for api, want := range map[string]bool{
		"{}":                              false,
		"{tls: auto}":                     false,
		"{address: '::1'}":                false,
		"{address: 0.0.0.0}":              true,
		"{address: '::'}":                 true,
		"{address: 192.0.2.1, tls: auto}": true,
		"{address: 0.0.0.0, tls: off}":    false,
	} {
		c, err := controlPlane(t, "task_types: [ping]\nallow_plain_text: true\napi: "+api+"\n")
		if err != nil || c.API.SelfCertified() != want {
			t.Errorf("api: %s: SelfCertified = %t, %v, want %t", api, c.API.SelfCertified(), err, want)
		}
	}
}

func TestAgentLabelsAreTrustedOnlyIfConfigured(t *testing.T) {
	t.Parallel()
	for section, want := range map[string]bool{"": false, "endpoints: {trust_agent_labels: false}\n": false, "endpoints: {trust_agent_labels: true}\n": true} {
		c, err := controlPlane(t, "task_types: [ping]\n"+section)
		if err != nil || bool(c.Endpoints.TrustAgentLabels) != want {
			t.Errorf("%q: TrustAgentLabels = %t, %v, want %t", section, c.Endpoints.TrustAgentLabels, err, want)
		}
	}
}

func TestAgentsURI(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{"amqps://mq.example.org", "amqp://192.0.2.1:5672/", "amqp://[2001:db8::1]:5672/ta%2Fsker"} {
		c, err := controlPlane(t, "task_types: [ping]\nallow_plain_text: true\nmessage_queue:\n  uri: amqp://u:hunter2@localhost/ta%2Fsker\n  agents_uri: \""+uri+"\"\n")
		if err != nil || c.MessageQueue.AgentsURI.Reveal() != uri {
			t.Errorf("agents_uri: %s: %v", uri, err)
		}
	}
}

func TestControlPlaneDefaults(t *testing.T) {
	t.Parallel()
	got, err := controlPlane(t, "task_types: [ping]\napi:\ndatabase: {uri: }\n")
	if err != nil {
		t.Fatal(err)
	}
	want := &config.ControlPlane{
		TaskTypes: []config.TaskType{{Name: "ping", Handler: "ping"}},
		DataDir:   "/var/lib/tasker",
		API: config.API{
			Address: "127.0.0.1", Port: 8888, WaitForEndpointsTimeout: tasker.Duration(30 * time.Second),
			LostAfter: tasker.Duration(time.Hour), Heartbeat: tasker.Duration(10 * time.Second), Auth: true,
			TLS: config.TLS{Mode: "auto"},
		},
		Database: config.Database{URI: "sqlite:tasker.db"},
		RabbitMQ: config.RabbitMQ{APIURL: "http://localhost:15672/api", Username: "guest", Password: "guest"},
		Log:      config.Log{Level: "info", Format: "auto"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAgent(t *testing.T) {
	t.Parallel()
	got, err := agent(t, `
endpoint: loadbalancer-1
server: {uri: "http://127.0.0.1:8888", token_file: ""}   # or amqp://…
data_dir: /var/lib/tasker-agent
labels: {role: loadbalancer, rack: 7, version: 1.10, build: 00123, exp: 1e3, hex: 0x1F, no: no, since: 2026-01-02, big: 123456789012345678901234567890}
metrics: {address: 127.0.0.1, port: 0}
handlers:
  command: {allow: [["/usr/bin/uptime"], {argv: ["/usr/bin/make", "*"], env: [DESTDIR], cwd: ["/srv/*"], stdin: on, creates: [/srv/built]}]}
  file: {allow: [/etc/app]}
  script: {directory: /etc/tasker-agent/handlers.d}
  artifact: {allow: [/srv/app], sources: ["https://mirror.example.net/app"], token_files: [/etc/tasker-agent/mirror.token]}
  package: {allow: [nginx, "app-*"]}
  service: {allow: ["app@*.service", nginx]}
kill_grace: 1.5
`)
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Agent{
		Endpoint: "loadbalancer-1",
		Server:   config.Server{URI: "http://127.0.0.1:8888"},
		DataDir:  "/var/lib/tasker-agent",
		Labels: map[string]string{
			"role": "loadbalancer", "rack": "7",
			// As they are written.
			"version": "1.10", "build": "00123", "exp": "1e3", "hex": "0x1F", "no": "no", "since": "2026-01-02", "big": "123456789012345678901234567890",
		},
		Metrics: config.Metrics{Address: "127.0.0.1", Port: 0},
		Handlers: config.Handlers{
			Command: config.Command{Allow: []config.AllowedCommand{
				{Argv: []string{"/usr/bin/uptime"}},
				{Argv: []string{"/usr/bin/make", "*"}, Env: []string{"DESTDIR"}, Cwd: []string{"/srv/*"}, Stdin: true, Creates: []string{"/srv/built"}},
			}},
			File:     config.AllowList{Allow: []string{"/etc/app"}},
			Script:   config.Script{Directory: "/etc/tasker-agent/handlers.d"},
			Artifact: config.Artifact{Allow: []string{"/srv/app"}, Sources: []string{"https://mirror.example.net/app"}, TokenFiles: []string{"/etc/tasker-agent/mirror.token"}},
			Package:  config.AllowList{Allow: []string{"nginx", "app-*"}},
			Service:  config.AllowList{Allow: []string{"app@*.service", "nginx"}},
		},
		Concurrency:         8,
		KillGrace:           tasker.Duration(1500 * time.Millisecond),
		StopTimeout:         tasker.Duration(30 * time.Second),
		UnauthorizedTimeout: tasker.Duration(time.Minute),
		Log:                 config.Log{Level: "info", Format: "auto"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	tests := []struct{ value, want string }{
		{`"${PASSWORD}"`, `s3:"cr} et`},
		{`${PASSWORD}`, `s3:"cr} et`},
		{`a ${PORT} b ${PORT}`, "a 9999 b 9999"},
		{`${EMPTY}`, ""},
		{`$${PORT}`, "${PORT}"},
		{`$$${PORT}`, "$${PORT}"},
		{`$PORT $`, "$PORT $"},
		{`${NESTED}`, "${PASSWORD}"},
		{`${YAML}`, "x\nauth: off\n"},
		{"|\n    ${PORT}\n", "9999\n"},
	}
	for _, tt := range tests {
		t.Run(tt.value, func(t *testing.T) {
			t.Parallel()
			c, err := controlPlane(t, "task_types: [ping]\nrabbitmq:\n  password: "+tt.value)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.RabbitMQ.Password.Reveal(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if !c.API.Auth {
				t.Error("a variable's value changed another key")
			}
		})
	}
}
