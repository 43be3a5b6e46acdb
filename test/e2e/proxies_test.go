package e2e

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/transport/transporttest"
)

// proxies are in the connections of a fleet, to cause faults. broker and database, which are
// used by the control plane, may be nil.
type proxies struct {
	agents, broker, database *transporttest.Proxy
	// target is the address behind the agents' proxy.
	target string
}

// withProxies runs a test on each backend, with proxies between all programs.
func withProxies(t *testing.T, test func(t *testing.T, f *fleet, w *proxies)) {
	t.Helper()
	t.Run("http+sqlite", func(t *testing.T) {
		t.Parallel()
		w := &proxies{}
		f := newFleet(t, backend{
			controlplane: `database: {uri: "sqlite:tasker.db"}` + "\n",
			agents: func(string) string {
				return fmt.Sprintf("server: {uri: %q}\n", "http://"+w.agents.Address)
			},
		})
		w.target = f.api
		w.agents = transporttest.NewProxy(t, f.api)
		f.faulty = true
		test(t, f, w)
	})
	t.Run("rabbitmq+mysql", func(t *testing.T) {
		t.Parallel()
		broker, db := rabbitmqtest.New(t), storetest.MySQL(t)
		u, err := url.Parse(db.URI)
		if err != nil {
			t.Fatal(err)
		}
		w := &proxies{
			target:   broker.Address,
			agents:   transporttest.NewProxy(t, broker.Address),
			broker:   transporttest.NewProxy(t, broker.Address),
			database: transporttest.NewProxy(t, u.Host),
		}
		u.Host = w.database.Address
		at := func(p *transporttest.Proxy) string { return broker.URIAt(p.Address, broker.Username, broker.Password) }
		f := newFleet(t, backend{
			controlplane: fmt.Sprintf("database: {uri: %q}\nmessage_queue: {uri: %q}\nrabbitmq: {apiurl: %q, username: %q, password: %q}\n",
				u, at(w.broker), broker.APIURL, broker.Username, broker.Password),
			initialize: true,
			agents:     func(string) string { return fmt.Sprintf("server: {uri: %q}\n", at(w.agents)) },
		})
		f.faulty = true
		test(t, f, w)
	})
}

// ledger is a file in which a script records its starts and ends.
type ledger struct{ path string }

// newSleepScript makes update-app a script that records its start, sleeps for the seconds in
// its payload, and records its end. It does not end while hold is in effect.
func newSleepScript(f *fleet) ledger {
	f.t.Helper()
	l := ledger{filepath.Join(f.dir, "ledger")}
	f.script("update-app", `#!/bin/sh
me="$TASKER_TASK_ID $TASKER_ENDPOINT $TASKER_ATTEMPT"
echo "began $me" >>`+l.path+`
sleep "$(tr -cd '0-9.')"
while [ -e '`+f.dir+`/hold-perform' ]; do sleep 0.02; done
echo "ended $me" >>`+l.path+`
`)
	return l
}

// lines returns the lines of the ledger.
func (l ledger) lines(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile(l.path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.FieldsFunc(string(raw), func(r rune) bool { return r == '\n' })
}

// count returns how often each line occurs.
func (l ledger) count(t *testing.T) map[string]int {
	t.Helper()
	n := map[string]int{}
	for _, line := range l.lines(t) {
		n[line]++
	}
	return n
}

// counts returns how often an endpoint began and ended an attempt of a task.
func (l ledger) counts(t *testing.T, task, endpoint string, attempt int) (began, ended int) {
	t.Helper()
	n := l.count(t)
	me := fmt.Sprintf(" %s %s %d", task, endpoint, attempt)
	return n["began"+me], n["ended"+me]
}

// check checks that the responses of a task match the ledger.
func (l ledger) check(t *testing.T, a answer) {
	t.Helper()
	for _, r := range a.Responses {
		began, ended := l.counts(t, a.Task.ID, r.Endpoint, r.Attempt)
		switch {
		case began > 1:
			t.Errorf("task %s was started %d times on %s", a.Task.Identifier, began, r.Endpoint)
		case (r.Status == "succeeded") && ended != 1:
			t.Errorf("task %s succeeded on %s without being done", a.Task.Identifier, r.Endpoint)
		case (r.Status == "missing" || r.Status == "rejected") && began > 0:
			t.Errorf("task %s is %s (%s) on %s, but was started", a.Task.Identifier, r.Status, r.Reason, r.Endpoint)
		case !r.Status.Ended():
			t.Errorf("task %s is %s on %s", a.Task.Identifier, r.Status, r.Endpoint)
		}
	}
}
