package demo

import (
	"cmp"
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// updateApp is the script that performs the demo's task on each endpoint.
//
//go:embed update-app
var updateApp []byte

// writeFiles writes the configurations and the script.
func (f *fleet) writeFiles(a addresses) error {
	_, port, err := net.SplitHostPort(a.api)
	if err != nil {
		return fmt.Errorf("read an address: %w", err)
	}
	files := map[string]string{"controlplane.yaml": fmt.Sprintf(`task_types: [ping, facts, command, {name: %s, handler: script, timeout: 1m}]
data_dir: %q
api: {port: %s, agent_token: on}
database: {uri: %q}
message_queue: {uri: %q}
`, taskType, filepath.Join(f.dir, "controlplane"), port, cmp.Or(f.database, "sqlite:tasker.db"), f.messageQueue)}
	server := fmt.Sprintf("{uri: %q, token_file: %q}", a.url(), filepath.Join(f.dir, "controlplane", "agent.token"))
	if f.messageQueue != "" {
		server = fmt.Sprintf("{uri: %q}", f.messageQueue)
	}
	for name, address := range a.metrics {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("read an address: %w", err)
		}
		files[name+".yaml"] = fmt.Sprintf(`endpoint: %s
server: %s
data_dir: %q
labels: {role: loadbalancer}
metrics: {port: %s}
handlers:
  command: {allow: [[/usr/bin/uptime], [/bin/sleep, "*"]]}
  script: {directory: %q}
kill_grace: 2s
stop_timeout: 2s
`, name, server, filepath.Join(f.dir, name), port, filepath.Join(f.dir, "handlers.d"))
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("write a configuration: %w", err)
		}
	}
	script := filepath.Join(f.dir, "handlers.d", taskType)
	if err := os.Mkdir(filepath.Dir(script), 0o700); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	if err := os.WriteFile(script, updateApp, 0o700); err != nil { //nolint:gosec // agents execute it
		return fmt.Errorf("write a script: %w", err)
	}
	return nil
}
