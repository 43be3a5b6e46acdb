package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/config"
)

// wantProblem checks that an invalid configuration has one problem, of this key, which
// advises the line; an empty key means that the configuration is valid.
func wantProblem(t *testing.T, content string, err error, key, line string) {
	t.Helper()
	var problems config.Problems
	switch {
	case key == "" && err != nil:
		t.Errorf("%s: got %v, want no problem", content, err)
	case key == "":
	case !errors.As(err, &problems) || len(problems) != 1 || problems[0].Key != key || !strings.Contains(err.Error(), line):
		t.Errorf("%s: got %v, want one problem, of %s, with %q", content, err, key, line)
	}
	if err != nil && strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password is shown in: %v", err)
	}
}

func TestControlPlaneRefusesPlainTextToOtherMachines(t *testing.T) {
	t.Parallel()
	const queue = "message_queue: {uri: 'amqps://u:hunter2@mq/v'}\n"
	for i, tt := range []struct{ content, key string }{
		{"api: {address: 0.0.0.0, tls: off}\n", "api.tls"},
		{"api: {address: '::', tls: off}\n", "api.tls"},
		{"api: {address: 0.0.0.0}\n", ""},
		{"api: {address: 127.0.0.1, tls: off}\n", ""},
		{"database: {uri: 'mysql://u:hunter2@db/x'}\n", "database.uri"},
		{"database: {uri: 'mysql://u:hunter2@db/x?tls=preferred'}\n", "database.uri"},
		{"database: {uri: 'mysql://u:hunter2@db/x?tls=false'}\n", "database.uri"},
		{"database: {uri: 'mysql://u:hunter2@db/x?tls=true&tls=false'}\n", "database.uri"},
		{"database: {uri: 'mysql://u:hunter2@127.0.0.1.example.net/x'}\n", "database.uri"},
		{"database: {uri: 'mysql://u:hunter2@db/x?tls=true'}\n", ""},
		{"database: {uri: 'mysql://u:hunter2@db/x?tls=skip-verify'}\n", ""},
		{"database: {uri: 'mysql://u:hunter2@db/x?socket=/run/mysqld/mysqld.sock'}\n", ""},
		{"database: {uri: 'mysql://u:hunter2@localhost/x'}\n", ""},
		{"database: {uri: 'mysql://u:hunter2@[::1]/x'}\n", ""},
		{"message_queue: {uri: 'amqp://u:hunter2@mq/v'}\n", "message_queue.uri"},
		{"message_queue: {uri: 'AMQP://u:hunter2@192.0.2.1/v'}\n", "message_queue.uri"},
		{"message_queue: {uri: 'amqp://u:hunter2@127.0.0.2/v'}\n", ""},
		{queue, ""},
		{"message_queue: {uri: 'amqp://u:hunter2@localhost/v', agents_uri: 'amqp://mq'}\n", "message_queue.agents_uri"},
		{"message_queue: {uri: 'amqp://u:hunter2@localhost/v', agents_uri: 'amqps://mq'}\n", ""},
		{queue + "rabbitmq: {apiurl: 'http://mq:15672/api'}\n", "rabbitmq.apiurl"},
		{queue + "rabbitmq: {apiurl: 'https://mq:15671/api'}\n", ""},
		{"rabbitmq: {apiurl: 'http://mq:15672/api'}\n", ""}, // not used
		{"prometheus: {uri: 'http://prometheus:9090'}\n", ""},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			_, err := controlPlane(t, "task_types: [ping]\n"+tt.content)
			wantProblem(t, tt.content, err, tt.key, "allow_plain_text: true")
			_, err = controlPlane(t, "task_types: [ping]\nallow_plain_text: true\n"+tt.content)
			wantProblem(t, tt.content, err, "", "")
		})
	}
}

func TestEnrolledAgentRefusesPlainTextToOtherMachines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		servers []config.URI
		key     string
	}{
		{[]config.URI{"http://cp:8888"}, "server.uri"},
		{[]config.URI{"https://cp:8888", "amqp://mq/v"}, "server.uri"},
		{[]config.URI{"http://cp:8888", "amqps://mq/v"}, "server.uri"},
		{[]config.URI{"https://cp:8888", "amqps://mq/v"}, ""},
		{[]config.URI{"http://127.0.0.1:8888", "amqp://localhost/v"}, ""},
	} {
		e := config.Enrolled{File: "/d/identity.json", Endpoint: "web-1", Servers: tt.servers}
		_, err := loadEnrolled(t, "data_dir: /d\n", e)
		wantProblem(t, fmt.Sprint(tt.servers), err, tt.key, "allow_plain_text: true")
		_, err = loadEnrolled(t, "data_dir: /d\nallow_plain_text: true\n", e)
		wantProblem(t, fmt.Sprint(tt.servers), err, "", "")
	}
}

// An agent that is not enrolled has no key to verify the orders of another machine with.
func TestAgentRefusesUnsignedOrdersOfOtherMachines(t *testing.T) {
	t.Parallel()
	for i, tt := range []struct{ server, further, key, line string }{
		{"http://127.0.0.1:8888", "", "", ""},
		{"amqp://u:hunter2@localhost/v", "", "", ""},
		{"https://cp:8888", "", "accept_unsigned_orders", "accept_unsigned_orders: true"},
		{"amqps://u:hunter2@mq/v", "", "accept_unsigned_orders", "accept_unsigned_orders: true"},
		{"https://cp:8888", "accept_unsigned_orders: true\n", "", ""},
		{"amqps://u:hunter2@mq/v", "accept_unsigned_orders: true\n", "", ""},
		{"http://cp:8888", "accept_unsigned_orders: true\n", "server.uri", "allow_plain_text: true"},
		{"amqp://u:hunter2@mq/v", "accept_unsigned_orders: true\n", "server.uri", "allow_plain_text: true"},
		{"http://cp:8888", "allow_plain_text: true\n", "accept_unsigned_orders", "accept_unsigned_orders: true"},
		{"amqp://u:hunter2@mq/v", "accept_unsigned_orders: true\nallow_plain_text: true\n", "", ""},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			_, err := agent(t, "endpoint: web-1\nserver: {uri: '"+tt.server+"'}\n"+tt.further)
			wantProblem(t, tt.server+" "+tt.further, err, tt.key, tt.line)
		})
	}
}
