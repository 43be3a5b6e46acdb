package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// backend is the database and the transport of a fleet, as sections of configurations.
type backend struct {
	controlplane string
	// database is the URI of the control plane's database.
	database string
	// initialize means that the database and the broker must be set up.
	initialize bool
	// agents returns the agents' server section, given the API's address.
	agents func(api string) string
	// auth means that the API requires tokens.
	auth bool
}

// backends returns the supported backends.
func backends() map[string]func(t *testing.T) backend {
	return map[string]func(t *testing.T) backend{
		"http+sqlite": func(*testing.T) backend {
			return backend{
				controlplane: `database: {uri: "sqlite:tasker.db"}` + "\n",
				database:     "sqlite:tasker.db",
				agents:       func(api string) string { return fmt.Sprintf("server: {uri: %q}\n", "http://"+api) },
			}
		},
		"rabbitmq+mysql": func(t *testing.T) backend {
			t.Helper()
			broker, db := rabbitmqtest.New(t), storetest.MySQL(t)
			return backend{
				controlplane: fmt.Sprintf("database: {uri: %q}\nmessage_queue: {uri: %q}\nrabbitmq: {apiurl: %q, username: %q, password: %q}\n",
					db.URI, broker.URI, broker.APIURL, broker.Username, broker.Password),
				database:   db.URI,
				initialize: true,
				agents:     func(string) string { return fmt.Sprintf("server: {uri: %q}\n", broker.URI) },
			}
		},
	}
}

// forEachBackend runs a test on every backend.
func forEachBackend(t *testing.T, test func(t *testing.T, f *fleet)) {
	t.Helper()
	for name, make := range backends() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newFleet(t, make(t)))
		})
	}
}

// fleet is a control plane and agents under test.
type fleet struct {
	t       *testing.T
	dir     string
	backend backend
	api     string
	config  string
	// token is the access token of calls; it may be empty.
	token  string
	cp     *process
	agents map[string]*process
	// faulty means that the test causes network faults. Then the API may respond with 503
	// for a moment, also after a fault, because older connections fail.
	faulty bool
}

// types are the task types of every control plane.
const types = `task_types:
  - ping
  - facts
  - command
  - {name: update-app, handler: script, timeout: 10m}
`

func newFleet(t *testing.T, f backend) *fleet {
	t.Helper()
	fl := &fleet{t: t, dir: t.TempDir(), backend: f, agents: map[string]*process{}}
	fl.configure("cp")
	if f.initialize {
		init := startProgram(t, "tasker-controlplane", "initialize", "--config", fl.config)
		<-init.done
		if code := init.cmd.ProcessState.ExitCode(); code != 0 {
			t.Fatalf("initialize exited with %d:\n%s", code, init.log)
		}
	}
	fl.startControlPlane()
	return fl
}

// configure writes the configuration of a control plane with a name.
func (f *fleet) configure(name string) {
	f.t.Helper()
	f.api = freeAddress(f.t)
	host, port, _ := net.SplitHostPort(f.api)
	f.config = f.write(name+".config.yaml", types+f.backend.controlplane+fmt.Sprintf(
		"data_dir: %q\napi: {address: %s, port: %s, wait_for_endpoints_timeout: 1m, auth: %t, agent_token: %t}\n", filepath.Join(f.dir, name), host, port, f.backend.auth, !f.backend.auth))
}

// startSecondControlPlane starts a second control plane, and returns a fleet that uses it.
func (f *fleet) startSecondControlPlane() *fleet {
	f.t.Helper()
	other := *f
	other.configure("other")
	// The control planes of one database share a signing key.
	key, err := os.ReadFile(filepath.Join(f.dir, "cp", "signing.key"))
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(filepath.Join("other", "signing.key"), string(key))
	other.startControlPlane()
	return &other
}

// startControlPlane starts the control plane and waits until it is ready.
func (f *fleet) startControlPlane() {
	f.t.Helper()
	f.cp = startProgram(f.t, "tasker-controlplane", "run", "--config", f.config)
	wait.For(f.t, "the control plane to be ready", func() bool {
		resp, err := http.Get("http://" + f.api + "/readyz") //nolint:noctx // on loopback
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode == http.StatusOK
	})
	if f.backend.auth {
		token, err := os.ReadFile(filepath.Join(f.dir, "cp", "admin.token"))
		if err != nil {
			f.t.Fatal(err)
		}
		f.token = strings.TrimSpace(string(token))
	}
}

// startAgent starts an agent, with additional lines of configuration, and waits until it
// is connected.
func (f *fleet) startAgent(name string, further ...string) *process {
	f.t.Helper()
	scripts := filepath.Join(f.dir, "handlers.d")
	if err := os.MkdirAll(scripts, 0o755); err != nil { //nolint:gosec // the mode that packages use
		f.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(freeAddress(f.t))
	config := f.write(name+".yaml", f.backend.agents(f.api)+fmt.Sprintf(`endpoint: %s
data_dir: %q
labels: {role: loadbalancer}
metrics: {address: 127.0.0.1, port: %s}
kill_grace: 1s
handlers:
  command: {allow: [["/bin/sleep", "*"], ["/bin/sh", "-c", "*"]]}
  script: {directory: %q}
%s
`, name, filepath.Join(f.dir, name), port, scripts, strings.Join(further, "\n")))
	p := startProgram(f.t, "tasker-agent", "run", "--config", config)
	f.agents[name] = p
	wait.For(f.t, name+" to be connected", func() bool { return f.endpoint(name).Connected })
	return p
}

// script writes an executable into the agents' handlers directory.
func (f *fleet) script(name, body string) {
	f.t.Helper()
	path := f.write(filepath.Join("handlers.d", name), body)
	if err := os.Chmod(path, 0o755); err != nil { //nolint:gosec // an executable
		f.t.Fatal(err)
	}
}

func (f *fleet) write(name, content string) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the mode that packages use
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// ports counts the ports that freeAddress has tried, from a random start.
var ports atomic.Uint32

// freeAddress returns an unused loopback address. No other test gets it, and the system
// uses its port for no connection, so it stays free while no program listens on it.
func freeAddress(t *testing.T) string {
	t.Helper()
	const first, count = 20_000, 12_000 // below the ports of outgoing connections, usually from 32768
	ports.CompareAndSwap(0, rand.Uint32N(count))
	for range count {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+ports.Add(1)%count))
		if err == nil {
			defer func() { _ = l.Close() }()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}
