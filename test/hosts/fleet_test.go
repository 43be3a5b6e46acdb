package hosts

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/selfcert"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

const (
	plane   = "controlplane"
	one     = "loadbalancer-1"
	two     = "loadbalancer-2"
	agent   = "tasker-agent"
	control = "tasker-controlplane"
)

// fleet is a control plane on one host and agents on others.
type fleet struct {
	*lab
	agents []string // the hosts
	on     topology
	client *http.Client
	api    string
	token  string
}

const planeConfig = `task_types: [ping, command, artifact]
data_dir: /var/lib/tasker
api: {address: 0.0.0.0, port: 8888, wait_for_endpoints_timeout: 20s, auth: on}
log: {level: debug}
%s
`

const agentConfig = `data_dir: /var/lib/tasker-agent
kill_grace: 1s
stop_timeout: 10s
handlers:
  command: {allow: [{argv: ["/bin/sh", "-c", "*"], creates: ["/srv/*"]}, ["/bin/sleep", "*"]]}
  artifact: {allow: [/srv/app], sources: ["file:///var/tmp", "http://*"]}
  service: {allow: [app.service]}
log: {level: debug}
`

// newFleet returns a fleet with the newer version on Debian.
func newFleet(t *testing.T, on topology, agents ...string) *fleet {
	t.Helper()
	return newFleetOf(t, on, deb(), newer, agents...)
}

// newFleetOf installs each program on a host, by default with two agents, and waits until all
// agents are connected.
func newFleetOf(t *testing.T, on topology, k packageFormat, version string, agents ...string) *fleet {
	t.Helper()
	if len(agents) == 0 {
		agents = []string{one, two}
	}
	hosts := append([]string{plane}, agents...)
	l := newLab(t, hosts...)
	f := &fleet{lab: l, agents: agents, on: on}
	t.Cleanup(func() {
		if t.Failed() {
			f.logs()
		}
	})
	f.api = "https://" + l.do("ip", plane) + ":8888"
	if len(on.ports) > 0 {
		l.do(append([]string{"bridge"}, on.ports...)...)
	}
	for _, host := range hosts {
		f.sh(host, k.prepare)
	}
	f.install(plane, control, version, k)
	f.configure(plane, control, fmt.Sprintf(planeConfig, on.plane))
	if len(on.ports) > 0 {
		f.sh(plane, "systemctl stop "+control+"; "+control+" initialize --config /etc/tasker-controlplane/config.yaml")
	}
	f.sh(plane, "systemctl enable "+control+"; systemctl restart "+control)
	f.token = l.sh(plane, "cat /var/lib/tasker/admin.token")
	fingerprint, err := selfcert.FingerprintPEM([]byte(l.sh(plane, "cat /var/lib/tasker/tls.crt")))
	if err != nil {
		t.Fatal(err)
	}
	f.client = &http.Client{Transport: &http.Transport{DialContext: l.dial, TLSClientConfig: selfcert.Trust(fingerprint)}}
	t.Cleanup(f.client.CloseIdleConnections)
	for _, host := range agents {
		f.install(host, agent, version, k)
		f.join(host)
		f.waitConnected(host)
	}
	return f
}

// join enrols the installed agent of a host, which starts it.
func (f *fleet) join(host string) {
	f.t.Helper()
	f.configure(host, agent, agentConfig+f.on.agent)
	f.sh(host, "tasker-agent enrol --server https://controlplane:8888 --token "+f.enrolToken(1))
}

// enrolToken creates an enrolment token with a number of uses.
func (f *fleet) enrolToken(uses int) string {
	f.t.Helper()
	var token tasker.EnrolToken
	body := fmt.Sprintf(`{"ttl":"10m","max_uses":%d}`, uses)
	if code := f.call(http.MethodPost, "/tokens", body, &token); code != http.StatusCreated {
		f.t.Fatalf("POST /tokens answered %d", code)
	}
	return token.Token
}

// configure replaces the configuration of a program, and keeps owner and mode of the file.
func (f *fleet) configure(host, program, config string) {
	f.t.Helper()
	if out, err := f.try(config, "exec", host, "sh", "-euc", "cat >/etc/"+program+"/config.yaml"); err != nil {
		f.t.Fatalf("configure %s on %s: %v\n%s", program, host, err, out)
	}
}

func (f *fleet) logs() {
	for _, host := range append([]string{plane}, f.agents...) {
		unit := agent
		if host == plane {
			unit = control
		}
		out, err := f.try("", "exec", host, "journalctl", "--no-pager", "--lines=80", "--unit="+unit)
		f.t.Logf("log of %s (%v):\n%s", host, err, out)
	}
}

// waitConnected waits until an endpoint is connected.
func (f *fleet) waitConnected(endpoint string) {
	f.t.Helper()
	wait.For(f.t, endpoint+" to be connected", func() bool {
		var e tasker.Endpoint
		return f.call(http.MethodGet, "/endpoints/"+endpoint, "", &e) == http.StatusOK && e.Connected
	})
}

// boot boots a host that was cut off, and waits for the hello of its agent. Before the hello
// the control plane may still count the earlier connection.
func (f *fleet) boot(host string) {
	f.t.Helper()
	seen := func() tasker.Endpoint {
		f.t.Helper()
		var e tasker.Endpoint
		if code := f.call(http.MethodGet, "/endpoints/"+host, "", &e); code != http.StatusOK {
			f.t.Fatalf("GET of endpoint %s answered %d", host, code)
		}
		return e
	}
	before := seen().LastSeen
	f.do("up", host)
	wait.For(f.t, host+" to send a hello", func() bool {
		e := seen()
		return e.Connected && e.LastSeen.After(before)
	})
}

// answer is the response to GET /{type}/{id}.
type answer struct {
	Task      tasker.Task       `json:"task"`
	Responses []tasker.Response `json:"responses"`
}

func (a answer) response(t *testing.T, endpoint string) tasker.Response {
	t.Helper()
	for _, r := range a.Responses {
		if r.Endpoint == endpoint {
			return r
		}
	}
	t.Fatalf("no response of %s in %+v", endpoint, a)
	return tasker.Response{}
}

// command posts a task that runs a shell script.
func (f *fleet) command(identifier, script string, endpoints ...string) tasker.Task {
	f.t.Helper()
	return f.post("command", identifier, map[string]any{"argv": []string{"/bin/sh", "-c", script}}, endpoints...)
}

func (f *fleet) post(taskType, identifier string, payload any, endpoints ...string) tasker.Task {
	f.t.Helper()
	return f.request(taskType, map[string]any{"identifier": identifier, "payload": payload, "endpoints": endpoints})
}

// request posts a task with any fields of the API.
func (f *fleet) request(taskType string, fields map[string]any) tasker.Task {
	f.t.Helper()
	body, err := json.Marshal(fields)
	if err != nil {
		f.t.Fatal(err)
	}
	var task tasker.Task
	if code := f.call(http.MethodPost, "/"+taskType, string(body), &task); code != http.StatusCreated {
		f.t.Fatalf("POST /%s %s answered %d", taskType, body, code)
	}
	return task
}

func (f *fleet) get(task tasker.Task) answer {
	f.t.Helper()
	var a answer
	if code := f.call(http.MethodGet, "/"+task.Type+"/"+task.ID, "", &a); code != http.StatusOK {
		f.t.Fatalf("GET of task %s answered %d", task.ID, code)
	}
	return a
}

// waitRunning waits until a task is running on an endpoint.
func (f *fleet) waitRunning(task tasker.Task, endpoint string) {
	f.t.Helper()
	wait.For(f.t, endpoint+" to run "+task.Identifier, func() bool {
		return f.get(task).response(f.t, endpoint).Status == tasker.Running
	})
}

// waitFinished waits until a task has finished.
func (f *fleet) waitFinished(task tasker.Task) answer {
	f.t.Helper()
	var a answer
	wait.For(f.t, task.Identifier+" to finish", func() bool {
		a = f.get(task)
		return a.Task.FinishedAt != nil
	})
	return a
}

// checkPing checks that endpoints perform a ping.
func (f *fleet) checkPing(identifier string, endpoints ...string) {
	f.t.Helper()
	if a := f.waitFinished(f.post("ping", identifier, "hello", endpoints...)); a.Task.Status != tasker.TaskSucceeded {
		f.t.Errorf("ping of %v: %+v", endpoints, a)
	}
}

// call sends a request, decodes a 2xx response into out, and returns the status code; 0 if
// there is no response.
func (f *fleet) call(method, path, body string, out any) int {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.api+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.client.Do(req)
	if err != nil {
		f.t.Logf("%s %s: %v", method, path, err)
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	if resp.StatusCode/100 != 2 {
		f.t.Logf("%s %s answered %d: %s", method, path, resp.StatusCode, raw)
	} else if err := json.Unmarshal(raw, out); out != nil && err != nil {
		f.t.Fatalf("%s %s: %v in %s", method, path, err, raw)
	}
	return resp.StatusCode
}
