package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
	"github.com/MatthiasWiesner/tasker/controlplane/api/access"
	"github.com/MatthiasWiesner/tasker/controlplane/enrol"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/controlplane/watch"
)

// adminToken lets the scripts in.
const adminToken = "the-admins-own-token"

// TestScriptsWithAnAPI runs the command lines in testdata/api against the real
// API on a real store; the scripts speak for the agents with hello and report.
func TestScriptsWithAnAPI(t *testing.T) {
	t.Parallel()
	url, st := serve(t)
	agents := agents{store: st}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/api",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "hello": agents.hello, "report": agents.report,
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TASKER_URL", url)
			env.Setenv("TASKER_TOKEN", adminToken)
			return nil
		},
	})
}

// serve starts an API with the task type ping.
func serve(t *testing.T) (string, *store.Store) {
	t.Helper()
	fanout := watch.NewFanout()
	o := storetest.SQLite(t)
	o.Types = []tasker.TaskType{{Name: "ping", Handler: "ping"}}
	o.Heartbeat = 10 * time.Second
	o.OnCommit = func(c store.Commit) { fanout.Publish(c.Tasks) }
	st := storetest.Open(t, o)
	guard, err := access.NewGuard(access.Options{Tokens: access.Tokens{Admin: adminToken, Agent: "the-agents-own-token"}})
	if err != nil {
		t.Fatal(err)
	}
	service, err := enrol.New(t.Context(), enrol.Options{Store: st, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	a, err := api.New(api.Options{
		Store: st, Types: []api.Type{{Name: "ping", Handler: "ping"}}, Watch: fanout, Guard: guard, Enrol: service,
		Checks:         map[string]func(context.Context) error{"database": st.Check},
		ReceiveTimeout: 30 * time.Second, Version: "1.2.3", Log: slog.New(slog.DiscardHandler),
		Registerer: reg, Gatherer: reg,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(a)
	t.Cleanup(func() {
		a.Drain()
		server.Close()
	})
	return server.URL, st
}

// agents speak in the place of agents. The scripts use one name each.
type agents struct {
	store *store.Store
}

// hello ENDPOINT
func (a agents) hello(ts *testscript.TestScript, _ bool, args []string) {
	a.apply(ts, tasker.Report{Endpoint: args[0], Hello: &tasker.Hello{Session: "s", Presence: tasker.Presence{
		Version: "1.2.3", Handlers: []string{"ping"}, Labels: map[string]string{"role": "web"},
	}}})
}

// report IDENTIFIER ENDPOINT STATUS PERCENT MESSAGE
func (a agents) report(ts *testscript.TestScript, _ bool, args []string) {
	task, err := a.store.Task(context.Background(), "ping", args[0])
	ts.Check(err)
	percent, err := strconv.ParseFloat(args[3], 64)
	ts.Check(err)
	seq, err := strconv.ParseInt(args[3], 10, 64)
	ts.Check(err)
	now := task.CreatedAt.Add(time.Second)
	u := &tasker.Update{
		TaskID: task.ID, Type: task.Type, Attempt: 1, Seq: seq + 1, Status: tasker.ResponseStatus(args[2]),
		ReceivedAt: &now, StartedAt: &now, Progress: &tasker.Progress{Percent: percent, Message: args[4]},
		Output: []tasker.Chunk{{Data: []byte("hello from " + args[1] + "\n")}}, OutputBytes: int64(len("hello from " + args[1] + "\n")),
	}
	if u.Status.Ended() {
		end := now.Add(1500 * time.Millisecond)
		u.FinishedAt = &end
		u.Result = json.RawMessage(`{"pong":true}`)
	}
	if u.Status == tasker.Failed {
		u.Error = args[4]
	}
	a.apply(ts, tasker.Report{Endpoint: args[1], Update: u})
}

func (a agents) apply(ts *testscript.TestScript, r tasker.Report) {
	r.Version, r.Instance = tasker.WireVersion, fmt.Sprintf("instance-of-%s", r.Endpoint)
	_, err := a.store.Apply(context.Background(), []tasker.Report{r})
	ts.Check(err)
}
