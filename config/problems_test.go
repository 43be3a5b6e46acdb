package config_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/config"
)

// badConfig is a configuration with one problem: the error names the line and the key, and
// contains the text.
type badConfig struct {
	name, content string
	line          int
	key, text     string
}

// check checks the error of a bad configuration.
func (b badConfig) check(t *testing.T, err error) {
	t.Helper()
	var problems config.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("got %v, want problems", err)
	}
	if len(problems) != 1 {
		t.Fatalf("got %d problems, want 1:\n%v", len(problems), err)
	}
	p := problems[0]
	if p.Line != b.line || p.Key != b.key || !strings.Contains(p.Message, b.text) {
		t.Errorf("got line %d, key %q:\n%v\nwant line %d, key %q, and %q", p.Line, p.Key, err, b.line, b.key, b.text)
	}
	if p.Line > 0 && !strings.Contains(err.Error(), fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)) {
		t.Errorf("%q does not name file, line and column", err)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password is shown in: %v", err)
	}
}

func TestControlPlaneProblems(t *testing.T) {
	t.Parallel()
	notADir := write(t, "")
	const ok = "task_types: [ping]\n"
	const queue = "message_queue:\n  uri: amqp://u:hunter2@localhost/tasker\n"
	tests := []badConfig{
		{"empty file", "", 0, "task_types", "list at least one"},
		{"comment only", "# nothing\n", 0, "task_types", "list at least one"},
		{"no YAML", ok + "api: {port: 1", 2, "", "is not valid YAML"},
		{"bad indentation", ok + "api:\n  port: 1\n address: x\n", 4, "", "is not valid YAML"},
		{"tab", ok + "api:\n\tport: 1\n", 3, "", "is not valid YAML"},
		{"a list at the top", "- ping\n", 1, "", "a section of keys and values belongs here"},
		{"a text at the top", "ping\n", 1, "", "a section of keys and values belongs here"},
		{"two documents", ok + "---\n" + ok, 3, "", "second YAML document"},
		{"anchor", "task_types: &x [ping]\n", 1, "task_types", "anchors"},
		{"duplicate key", ok + "data_dir: a\ndata_dir: b\n", 3, "", "already defined"},
		{"unquoted variable in braces", ok + "database: {uri: ${DSN}}\n", 2, "", "in quotes"},
		{"unknown key", ok + "\napi_port: 1\n", 3, "api_port", "unknown key; known here: allow_plain_text, api, callbacks, data_dir"},
		{"unknown key in a section", ok + "api:\n  port: 1\n  prot: 2\n", 4, "api.prot", "unknown key; known here: address"},
		{"unknown key of a type", "task_types:\n  - ping\n  - {name: x, retries: 3}\n", 3, "task_types[1].retries", "unknown key"},
		{"section as a text", ok + "api: 8888\n", 2, "api", "not a single value"},
		{"text as a section", ok + "data_dir: {a: b}\n", 2, "data_dir", "not a section"},
		{"no types", "task_types: []\n", 1, "task_types", "list at least one"},
		{"null types", "data_dir: x\ntask_types:\n", 2, "task_types", "list at least one"},
		{"types as a text", "task_types: ping\n", 1, "task_types", "a list belongs here"},
		{"types as a section", "task_types: {ping: {}}\n", 1, "task_types", "a list belongs here"},
		{"empty type", "task_types:\n  - ping\n  -\n", 3, "task_types[1]", "empty"},
		{"type without a name", "task_types:\n  - {handler: ping}\n", 2, "task_types[0]", "no name"},
		{"type with a bad name", "task_types:\n  - Update App\n", 2, "task_types[0].name", `"Update App"`},
		{"reserved type", "task_types:\n  - ping\n  - endpoints\n", 3, "task_types[1].name", "the API reserves this name"},
		{"duplicate type", "task_types:\n  - ping\n  - facts\n  - {name: ping}\n", 4, "task_types[2].name", "already on line 2"},
		{"unknown handler", "task_types:\n  - {name: x, handler: skript}\n", 2, "task_types[0].handler", "there are ping, facts, command, script"},
		{"bad name of a handler", "handlers: [My Handler]\n" + ok, 1, "handlers[0]", `"My Handler"`},
		{"bad type timeout", "task_types:\n  - name: x\n    timeout: soon\n", 3, "task_types[0].timeout", `"soon" is not a duration`},
		{"negative type timeout", "task_types:\n  - name: x\n    timeout: -1s\n", 3, "task_types[0].timeout", "negative"},
		{"empty data_dir", ok + `data_dir: ""`, 2, "data_dir", "is empty"},
		{"data_dir is a file", ok + "data_dir: " + notADir, 2, "data_dir", "not a directory"},
		{"port as a word", ok + "api: {port: http}\n", 2, "api.port", `"http" is not a whole number`},
		{"port with a fraction", ok + "api: {port: 88.5}\n", 2, "api.port", "not a whole number"},
		{"port 0", ok + "api: {port: 0}\n", 2, "api.port", "from 1 to 65535"},
		{"negative port", ok + "api: {port: -1}\n", 2, "api.port", "from 1 to 65535"},
		{"port too high", ok + "api:\n  port: 65536\n", 3, "api.port", "from 1 to 65535"},
		{"address is not an IP", ok + "api: {address: example.net}\n", 2, "api.address", "not an IP address"},
		{"address with a port", ok + `api: {address: "127.0.0.1:80"}`, 2, "api.address", "not an IP address"},
		{"empty address", ok + `api: {address: ""}`, 2, "api.address", "is empty"},
		{"timeout with an unknown unit", ok + "api: {wait_for_endpoints_timeout: 30x}\n", 2, "api.wait_for_endpoints_timeout", "not a duration"},
		{"timeout zero", ok + "api: {wait_for_endpoints_timeout: 0}\n", 2, "api.wait_for_endpoints_timeout", "too short"},
		{"negative timeout", ok + "api: {wait_for_endpoints_timeout: -5}\n", 2, "api.wait_for_endpoints_timeout", "negative"},
		{"lost after less than three heartbeats", ok + "api: {lost_after: 20s}\n", 2, "api.lost_after", "three heartbeats, 30s"},
		{"heartbeat too short", ok + "api: {heartbeat: 1ms}\n", 2, "api.heartbeat", "too short"},
		{"auth neither on nor off", ok + "api: {auth: maybe}\n", 2, "api.auth", "neither on nor off"},
		{"auth off for all machines", ok + "api:\n  address: 0.0.0.0\n  auth: off\n", 4, "api.auth", "loopback only"},
		{"certificate without a key", ok + "api: {tls: {cert: a.pem}}\n", 2, "api.tls.key", "missing"},
		{"key without a certificate", ok + "api: {tls: {key: a.pem}}\n", 2, "api.tls.cert", "missing"},
		{"unknown TLS", ok + "api: {tls: maybe}\n", 2, "api.tls.mode", "neither auto nor off"},
		{"no TLS with a certificate", ok + "api: {tls: {mode: off, cert: a.pem, key: a.key}}\n", 2, "api.tls.mode", "remove one of them"},
		{"no such certificate", ok + "api:\n  tls: {cert: /none.pem, key: /none.key}\n", 3, "api.tls", "no such file"},
		{"unknown database", ok + "database: {uri: postgres://u:hunter2@db/x}\n", 2, "database.uri", "neither sqlite:FILE nor mysql:"},
		{"empty database", ok + `database: {uri: ""}`, 2, "database.uri", "neither sqlite:FILE nor mysql:"},
		{"empty sqlite path", ok + `database: {uri: "sqlite:"}`, 2, "database.uri", "names no file"},
		{"sqlite in memory", ok + `database: {uri: "sqlite::memory:"}`, 2, "database.uri", "lose accepted tasks"},
		{"bad labels of a type", "task_types:\n  - name: ping\n    labels: a b\n", 3, "task_types[0].labels", "not a label selector"},
		{"mysql without a database", ok + "database: {uri: mysql://u:hunter2@db:3306/}\n", 2, "database.uri", "names no database"},
		{"mysql without a host", ok + "database: {uri: mysql:///tasker}\n", 2, "database.uri", "no valid host"},
		{"mysql without a user", ok + "database: {uri: mysql://db/tasker}\n", 2, "database.uri", "no user"},
		{"mysql with a bad port", ok + "database: {uri: mysql://u:hunter2@db:99999/tasker}\n", 2, "database.uri", "port 99999"},
		{"mysql with a slash in the password", ok + "database: {uri: mysql://u:hunter2/x@db:3306/tasker}\n", 2, "database.uri", "percent-encoded"},
		{"queue with an invalid URI", ok + "message_queue: {uri: localhost}\n", 2, "message_queue.uri", "agents that connect to the API"},
		{"queue over http", ok + "message_queue: {uri: http://localhost}\n", 2, "message_queue.uri", "agents that connect to the API"},
		{"agents_uri without a queue", ok + "message_queue: {agents_uri: amqp://broker}\n", 2, "message_queue.agents_uri", "without message_queue.uri"},
		{"agents over http", ok + queue + "  agents_uri: http://broker\n", 4, "message_queue.agents_uri", "is not like amqp://HOST:5672"},
		{"agents without a host", ok + queue + "  agents_uri: amqp:///tasker\n", 4, "message_queue.agents_uri", "no valid host"},
		{"agents at an invalid port", ok + queue + "  agents_uri: amqp://broker:70000\n", 4, "message_queue.agents_uri", "port 70000"},
		{"agents with a user", ok + queue + "  agents_uri: amqp://u:hunter2@broker\n", 4, "message_queue.agents_uri", "has a user"},
		{"agents with parameters", ok + queue + "  agents_uri: amqp://broker/tasker?heartbeat=1\n", 4, "message_queue.agents_uri", "after ?"},
		{"agents in another vhost", ok + queue + "  agents_uri: amqp://broker/other\n", 4, "message_queue.agents_uri", "another vhost"},
		{"queue without a user", ok + "message_queue: {uri: amqp://localhost/tasker}\n", 2, "message_queue.uri", "no user and password"},
		{"queue without a password", ok + "message_queue: {uri: amqp://u@localhost/tasker}\n", 2, "message_queue.uri", "no user and password"},
		{"queue without a vhost", ok + "message_queue: {uri: amqp://u:hunter2@localhost:5672}\n", 2, "message_queue.uri", "no vhost"},
		{"queue with an empty vhost", ok + "message_queue: {uri: amqp://u:hunter2@localhost:5672/}\n", 2, "message_queue.uri", "no vhost"},
		{"queue with two slashes", ok + "message_queue: {uri: amqp://u:hunter2@localhost/a/b}\n", 2, "message_queue.uri", "more than one /"},
		{"queue with a # in the password", ok + "message_queue: {uri: \"amqp://u:hunter2#@localhost/a\"}\n", 2, "message_queue.uri", ""},
		{"unset variable", ok + "database:\n  uri: ${NOT_SET}\n", 3, "database.uri", "NOT_SET is not set"},
		{"variable without a name", ok + "database:\n  uri: ${}\n", 3, "database.uri", "not the name of an environment variable"},
		{"variable without an end", ok + "data_dir: ${HOME\n", 2, "data_dir", "no closing brace"},
		{"management API without a scheme", ok + "rabbitmq: {apiurl: \"localhost:15672\"}\n", 2, "rabbitmq.apiurl", "http://HOST:PORT"},
		{"management API with a user", ok + "rabbitmq: {apiurl: \"http://u:hunter2@localhost:15672/api\"}\n", 2, "rabbitmq.apiurl", "has a user in it"},
		{"trusted proxy without an address", ok + "api: {trusted_proxies: [10.0.0.0/8, proxy.example.net]}\n", 2, "api.trusted_proxies[1]", "neither an IP address nor a network"},
		{"callbacks to an invalid URL", ok + "callbacks:\n  allow: [\"https://a.example\", hooks.example.net]\n", 3, "callbacks.allow[1]", "not a URL"},
		{"callbacks to a user", ok + "callbacks: {allow: [\"https://u:hunter2@hooks.example.net\"]}\n", 2, "callbacks.allow[0]", "has a user in it"},
		{"gates with an invalid URL", ok + "gates: {allow: [\"ftp://gates.example.net\"]}\n", 2, "gates.allow[0]", "not a URL"},
		{"empty superuser", ok + "rabbitmq: {username: \"\"}\n", 2, "rabbitmq.username", "is empty"},
		{"log level", ok + "log: {level: loud}\n", 2, "log.level", "debug, info, warn, error"},
		{"log format", ok + "log: {format: xml}\n", 2, "log.format", "auto, text, json"},
		{"former database key", ok + "manager:\n  db:\n    uri: mysql://u:hunter2@db/x\n", 4, "manager.db.uri", "now called database.uri"},
		{"former verbose key", ok + "manager:\n  db:\n    verbose: False\n", 4, "manager.db.verbose", "log.level"},
		{"former queue key", ok + "manager:\n  message_queue:\n    virtual_host: tasker\n", 4, "manager.message_queue.virtual_host", "message_queue.uri"},
		{"former section with an unknown key", ok + "manager:\n  foo: 1\n", 3, "manager.foo", "unknown key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := controlPlane(t, tt.content)
			tt.check(t, err)
		})
	}
}

func TestAgentProblems(t *testing.T) {
	t.Parallel()
	notADir := write(t, "")
	const ok = "endpoint: web-1\n"
	tests := []badConfig{
		{"empty file", "", 0, "endpoint", "is missing"},
		{"no endpoint", "data_dir: x\n", 1, "endpoint", "is missing"},
		{"bad endpoint", "endpoint: Web 1\n", 1, "endpoint", `"Web 1"`},
		{"all endpoints as an endpoint", "endpoint: '*all*'\n", 1, "endpoint", `"*all*"`},
		{"endpoint too long", "endpoint: " + strings.Repeat("a", 129), 1, "endpoint", "1 to 128"},
		{"endpoint as a list", "endpoint: [a, b]\n", 1, "endpoint", "not a list"},
		{"unknown key", ok + "handler: {}\n", 2, "handler", "unknown key; known here: accept_unsigned_orders, allow_plain_text, concurrency"},
		{"unknown handler", ok + "handlers:\n  shell: {}\n", 3, "handlers.shell", "known here: artifact, command, file, package, script, service"},
		{"server without a scheme", ok + "server: {uri: \"127.0.0.1:8888\"}\n", 2, "server.uri", "neither http://HOST:PORT nor amqp:"},
		{"server without a host", ok + "server: {uri: \"http://:8888\"}\n", 2, "server.uri", "no valid host"},
		{"server with a user", ok + "server: {uri: \"http://u:hunter2@h:8888\"}\n", 2, "server.uri", "token_file"},
		{"broker without a vhost", ok + "server: {uri: \"amqp://u:hunter2@h\"}\n", 2, "server.uri", "no vhost"},
		{"no such token", ok + "server:\n  token_file: /none\n", 3, "server.token_file", "no such file"},
		{"empty token", ok + "server:\n  token_file: " + notADir + "\n", 3, "server.token_file", "exactly one word"},
		{"token beside amqp", ok + "server:\n  uri: amqp://u:hunter2@h/v\n  token_file: x\n", 4, "server.token_file", "cannot be used with amqp"},
		{"no such CA", ok + "server: {ca_file: /none}\n", 2, "server.ca_file", "no such file"},
		{"CA without a certificate", ok + "server: {ca_file: " + notADir + "}\n", 2, "server.ca_file", "no PEM certificate"},
		{"data_dir is a file", ok + "data_dir: " + notADir, 2, "data_dir", "not a directory"},
		{"labels as a list", ok + "labels: [a]\n", 2, "labels", "section"},
		{"bad label", ok + "labels:\n  a: b\n  a b: c\n", 4, "labels.a b", "label's name"},
		{"nested label", ok + "labels: {a: {b: c}}\n", 2, "labels.a", "single value"},
		{"label too long", ok + "labels: {a: " + strings.Repeat("x", 256) + "}\n", 2, "labels.a", "255"},
		{"metrics port", ok + "metrics: {port: 70000}\n", 2, "metrics.port", "from 0 to 65535"},
		{"advertised address", ok + "metrics: {advertise: \"http://web-1:9464\"}\n", 2, "metrics.advertise", "HOST:PORT"},
		{"advertised everywhere", ok + "metrics: {advertise: 0.0.0.0}\n", 2, "metrics.advertise", "HOST:PORT"},
		{"metrics address", ok + "metrics: {address: all}\n", 2, "metrics.address", "not an IP address"},
		{"allow as a flat list", ok + "handlers:\n  command:\n    allow: [/bin/sleep]\n", 4, "handlers.command.allow[0]", "a list belongs here"},
		{"relative directory of a command", ok + "handlers: {command: {allow: [{argv: [/bin/ls], cwd: [srv]}]}}\n", 2, "handlers.command.allow[0].cwd[0]", "neither a plain absolute path"},
		{"relative program in a section", ok + "handlers: {command: {allow: [{argv: [ls]}]}}\n", 2, "handlers.command.allow[0].argv[0]", "not an absolute path"},
		{"unknown key of a command", ok + "handlers: {command: {allow: [{argv: [/bin/ls], user: app}]}}\n", 2, "handlers.command.allow[0].user", "unknown key"},
		{"empty command line", ok + "handlers: {command: {allow: [[]]}}\n", 2, "handlers.command.allow[0]", "is empty"},
		{"any program", ok + "handlers: {command: {allow: [[\"*\"]]}}\n", 2, "handlers.command.allow[0][0]", "any program"},
		{"relative program", ok + "handlers: {command: {allow: [[sleep]]}}\n", 2, "handlers.command.allow[0][0]", "not an absolute path"},
		{"every file", ok + "handlers: {file: {allow: [/etc/app, /]}}\n", 2, "handlers.file.allow[1]", "every file"},
		{"files in a relative directory", ok + "handlers:\n  file:\n    allow: [etc/app]\n", 4, "handlers.file.allow[0]", "absolute path"},
		{"files by an indirect path", ok + "handlers: {file: {allow: [/etc/../app]}}\n", 2, "handlers.file.allow[0]", "absolute path"},
		{"files in a directory with a slash", ok + "handlers: {file: {allow: [/etc/app/]}}\n", 2, "handlers.file.allow[0]", "a slash at the end"},
		{"scripts in a file", ok + "handlers: {script: {directory: " + notADir + "}}\n", 2, "handlers.script.directory", "not a directory"},
		{"relative directory", ok + "handlers:\n  artifact:\n    allow: [/srv/app, app]\n", 4, "handlers.artifact.allow[1]", "plain absolute path"},
		{"directory with ..", ok + "handlers: {artifact: {allow: [/srv/../etc]}}\n", 2, "handlers.artifact.allow[0]", "plain absolute path"},
		{"source without a scheme", ok + "handlers: {artifact: {sources: [mirror.example.net]}}\n", 2, "handlers.artifact.sources[0]", "neither https://HOST"},
		{"source with a user", ok + "handlers: {artifact: {sources: [\"https://u:hunter2@mirror\"]}}\n", 2, "handlers.artifact.sources[0]", "not a plain URL"},
		{"source by ftp", ok + "handlers: {artifact: {sources: [\"ftp://mirror\"]}}\n", 2, "handlers.artifact.sources[0]", "neither https://HOST"},
		{"source with ..", ok + "handlers: {artifact: {sources: [\"file:///srv/../etc\"]}}\n", 2, "handlers.artifact.sources[0]", "file:///var/cache/releases"},
		{"relative token file", ok + "handlers: {artifact: {token_files: [token]}}\n", 2, "handlers.artifact.token_files[0]", "plain absolute path of a file"},
		{"everything", ok + "handlers: {artifact: {allow: [/]}}\n", 2, "handlers.artifact.allow[0]", "plain absolute path"},
		{"packages as one name", ok + "handlers: {package: {allow: nginx}}\n", 2, "handlers.package.allow", "a list belongs here"},
		{"bad pattern of packages", ok + "handlers:\n  package:\n    allow: [nginx, \"app-[\"]\n", 4, "handlers.package.allow[1]", "neither a name nor a pattern"},
		{"empty unit", ok + "handlers: {service: {allow: [\"\"]}}\n", 2, "handlers.service.allow[0]", "neither a name nor a pattern"},
		{"unit by its file", ok + "handlers: {service: {allow: [/etc/systemd/system/app.service]}}\n", 2, "handlers.service.allow[0]", "neither a name nor a pattern"},
		{"no concurrency", ok + "concurrency: 0\n", 2, "concurrency", "from 1 to"},
		{"kill_grace", ok + "kill_grace: ten\n", 2, "kill_grace", "not a duration"},
		{"stop_timeout", ok + "stop_timeout: -1\n", 2, "stop_timeout", "negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := agent(t, tt.content)
			tt.check(t, err)
		})
	}
}

func TestClientProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range []badConfig{
		{"unknown key", "uri: x\n", 1, "uri", "known here: allow_plain_text, ca_file, token, token_file, url"},
		{"no URL", "url: tasker\n", 1, "url", "http://HOST:PORT"},
		{"two tokens", "token: hunter2\ntoken_file: x\n", 2, "token_file", "remove one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := config.LoadClient(config.Source{File: write(t, tt.content)})
			tt.check(t, err)
		})
	}
}

// All problems are reported at once.
func TestSeveralProblems(t *testing.T) {
	t.Parallel()
	_, err := controlPlane(t, `task_types: [ping, Ping]
api:
  port: 0
  auth: perhaps
  colour: blue
database: {uri: "${NOT_SET}"}
`)
	var problems config.Problems
	if !errors.As(err, &problems) {
		t.Fatal(err)
	}
	var keys []string
	for _, p := range problems {
		keys = append(keys, fmt.Sprint(p.Line, " ", p.Key))
	}
	want := "1 task_types[1].name, 3 api.port, 4 api.auth, 5 api.colour, 6 database.uri"
	if got := strings.Join(keys, ", "); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	_, _, err := config.LoadControlPlane(config.Source{File: "/none.yaml"}, handlers())
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/none.yaml") {
		t.Errorf("got %v", err)
	}
}
