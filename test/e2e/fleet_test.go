package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// fabric is what a fleet stands on: the sections of the configurations that say
// where things are.
type fabric struct {
	controlplane string
	// database is the one of the control plane, by its URI.
	database string
	// initialize: the database and the broker have to be set up.
	initialize bool
	// agents returns the agents' server section, given the API's address.
	agents func(api string) string
}

// fabrics are the two that are supported.
func fabrics() map[string]func(t *testing.T) fabric {
	return map[string]func(t *testing.T) fabric{
		"http+sqlite": func(*testing.T) fabric {
			return fabric{
				controlplane: `database: {uri: "sqlite:tasker.db"}` + "\n",
				database:     "sqlite:tasker.db",
				agents:       func(api string) string { return fmt.Sprintf("server: {uri: %q}\n", "http://"+api) },
			}
		},
		"rabbitmq+mysql": func(t *testing.T) fabric {
			t.Helper()
			broker, db := rabbitmqtest.New(t), storetest.MySQL(t)
			return fabric{
				controlplane: fmt.Sprintf("database: {uri: %q}\nmessage_queue: {uri: %q}\nrabbitmq: {apiurl: %q, username: %q, password: %q}\n",
					db.URI, broker.URI, broker.APIURL, broker.Username, broker.Password),
				database:   db.URI,
				initialize: true,
				agents:     func(string) string { return fmt.Sprintf("server: {uri: %q}\n", broker.URI) },
			}
		},
	}
}

// onEachFabric runs a test on both.
func onEachFabric(t *testing.T, test func(t *testing.T, f *fleet)) {
	t.Helper()
	for name, make := range fabrics() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newFleet(t, make(t)))
		})
	}
}

// fleet is a control plane and agents under test.
type fleet struct {
	t      *testing.T
	dir    string
	fabric fabric
	api    string
	config string
	cp     *process
	agents map[string]*process
	// pulled: the test pulls at the wires. Then 503 may be answered for a moment, also
	// after a wire is whole again, as connections that were begun before fail.
	pulled bool
}

// types are the task types that every test's control plane knows.
const types = `task_types:
  - ping
  - facts
  - command
  - {name: update-app, handler: script, timeout: 10m}
`

func newFleet(t *testing.T, f fabric) *fleet {
	t.Helper()
	fl := &fleet{t: t, dir: t.TempDir(), fabric: f, agents: map[string]*process{}}
	fl.configure("cp")
	if f.initialize {
		init := start(t, "tasker-controlplane", "initialize", "--config", fl.config)
		<-init.done
		if code := init.cmd.ProcessState.ExitCode(); code != 0 {
			t.Fatalf("initialize exited with %d:\n%s", code, init.log)
		}
	}
	fl.startControlPlane()
	return fl
}

// configure writes the configuration of a control plane of this name.
func (f *fleet) configure(name string) {
	f.t.Helper()
	f.api = freeAddress(f.t)
	host, port, _ := net.SplitHostPort(f.api)
	f.config = f.write(name+".config.yaml", types+f.fabric.controlplane+fmt.Sprintf(
		"data_dir: %q\napi: {address: %s, port: %s, wait_for_endpoints_timeout: 1m, auth: off}\n", filepath.Join(f.dir, name), host, port))
}

// another starts a second control plane of the same fleet, and returns the fleet as
// it is seen from there.
func (f *fleet) another() *fleet {
	f.t.Helper()
	other := *f
	other.configure("other")
	other.startControlPlane()
	return &other
}

// startControlPlane starts it and waits until it is ready.
func (f *fleet) startControlPlane() {
	f.t.Helper()
	f.cp = start(f.t, "tasker-controlplane", "run", "--config", f.config)
	wait.For(f.t, "the control plane to be ready", func() bool {
		resp, err := http.Get("http://" + f.api + "/readyz") //nolint:noctx // bounded by eventually
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode == http.StatusOK
	})
}

// startAgent starts an agent, with further lines of configuration, and waits
// until it is connected.
func (f *fleet) startAgent(name string, further ...string) *process {
	f.t.Helper()
	scripts := filepath.Join(f.dir, "handlers.d")
	if err := os.MkdirAll(scripts, 0o755); err != nil { //nolint:gosec // as a package would make it
		f.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(freeAddress(f.t))
	config := f.write(name+".yaml", f.fabric.agents(f.api)+fmt.Sprintf(`endpoint: %s
data_dir: %q
labels: {role: loadbalancer}
metrics: {address: 127.0.0.1, port: %s}
kill_grace: 1s
handlers:
  command: {allow: [["/bin/sleep", "*"], ["/bin/sh", "-c", "*"]]}
  script: {directory: %q}
%s
`, name, filepath.Join(f.dir, name), port, scripts, strings.Join(further, "\n")))
	p := start(f.t, "tasker-agent", "run", "--config", config)
	f.agents[name] = p
	wait.For(f.t, name+" to be connected", func() bool { return f.endpoint(name).Connected })
	return p
}

// script drops an executable into the agents' handlers directory.
func (f *fleet) script(name, body string) {
	f.t.Helper()
	path := f.write(filepath.Join("handlers.d", name), body)
	if err := os.Chmod(path, 0o755); err != nil { //nolint:gosec // it is to be executed
		f.t.Fatal(err)
	}
}

func (f *fleet) write(name, content string) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as a package would make it
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// answer is what GET /{type}/{id} returns.
type answer struct {
	Task      tasker.Task       `json:"task"`
	Responses []tasker.Response `json:"responses"`
	Controls  []tasker.Control  `json:"controls"`
}

// of returns one endpoint's response.
func (a answer) of(endpoint string) tasker.Response {
	for _, r := range a.Responses {
		if r.Endpoint == endpoint {
			return r
		}
	}
	return tasker.Response{}
}

// post creates a task and returns it; the API must take it.
func (f *fleet) post(taskType, body string) tasker.Task {
	f.t.Helper()
	var task tasker.Task
	code := f.served(http.MethodPost, "/"+taskType, body, &task)
	if again := f.pulled && code == http.StatusOK; code != http.StatusCreated && !again {
		f.t.Fatalf("POST /%s answered %d", taskType, code)
	}
	return task
}

func (f *fleet) get(taskType, ref string) answer {
	f.t.Helper()
	var a answer
	if code := f.served(http.MethodGet, "/"+taskType+"/"+ref, "", &a); code != http.StatusOK {
		f.t.Fatalf("GET /%s/%s answered %d", taskType, ref, code)
	}
	return a
}

// ends waits until the task is finished and returns the answer.
func (f *fleet) ends(task tasker.Task) answer {
	f.t.Helper()
	var a answer
	wait.For(f.t, "task "+task.Identifier+" to finish", func() bool {
		a = f.get(task.Type, task.ID)
		return a.Task.FinishedAt != nil
	})
	return a
}

func (f *fleet) endpoint(name string) tasker.Endpoint {
	f.t.Helper()
	var e tasker.Endpoint
	f.call(http.MethodGet, "/endpoints/"+name, "", &e)
	return e
}

// call makes a request and decodes a 2xx answer into out.
func (f *fleet) call(method, path, body string, out any) int {
	f.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(f.t.Context(), method, "http://"+f.api+path, reader)
	if err != nil {
		f.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	if resp.StatusCode/100 == 2 && out != nil {
		if err := json.NewDecoder(bytes.NewReader(raw)).Decode(out); err != nil {
			f.t.Fatalf("%s %s: %v in %s", method, path, err, raw)
		}
	} else if resp.StatusCode/100 != 2 && resp.StatusCode != http.StatusNotFound {
		f.t.Logf("%s %s answered %d: %s", method, path, resp.StatusCode, raw)
	}
	return resp.StatusCode
}

// served makes a call, again while the answer is 503 and wires are pulled.
func (f *fleet) served(method, path, body string, out any) (code int) {
	f.t.Helper()
	wait.For(f.t, method+" "+path+" to be served", func() bool {
		code = f.call(method, path, body, out)
		return !f.pulled || code != http.StatusServiceUnavailable
	})
	return code
}

// ports counts those that freeAddress has tried, from anywhere.
var ports atomic.Uint32

// freeAddress is a loopback address nobody listens on right now. No other test gets
// it, and the system gives its port to no connection: it stays free while a program
// is not yet there, or is started again.
func freeAddress(t *testing.T) string {
	t.Helper()
	const first, count = 20_000, 12_000 // below what is given to connections, as a rule from 32768
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
