package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/controlplane/callback"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/controlplane/urlrules"
	"github.com/MatthiasWiesner/tasker/controlplane/watch"
)

// adminToken is the access token of the scripts.
const adminToken = "the-admins-own-token"

// TestScriptsWithAnAPI runs the scripts in testdata/api against the real API on a real
// store. The scripts send the reports of the agents with hello and report.
func TestScriptsWithAnAPI(t *testing.T) {
	t.Parallel()
	runWithAPI(t, "testdata/api")
}

// TestScriptsOfLists uses a store of its own, because lists show all tasks and endpoints.
func TestScriptsOfLists(t *testing.T) {
	t.Parallel()
	runWithAPI(t, "testdata/lists")
}

func runWithAPI(t *testing.T, dir string) {
	t.Helper()
	clock := &shiftedClock{}
	url, st := serve(t, clock)
	agents := agents{store: st, clock: clock}
	hooks := startReceiver(t)
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "eventually": eventually, "hello": agents.hello, "report": agents.report,
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TASKER_URL", url)
			env.Setenv("TASKER_TOKEN", adminToken)
			env.Setenv("HOOKS", hooks)
			return nil
		},
	})
}

// shiftedClock is the machine's clock plus a duration that tests increase.
type shiftedClock struct{ ahead atomic.Int64 }

func (c *shiftedClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// serve starts an API with the task type ping, which can be rolled back.
func serve(t *testing.T, c *shiftedClock) (string, *store.Store) {
	t.Helper()
	fanout := watch.NewFanout()
	o := storetest.SQLite(t)
	o.Types = []tasker.TaskType{{Name: "ping", Handler: "ping"}}
	// long exceeds the duration of all scripts by the clock that they move.
	const long = time.Hour
	o.Heartbeat, o.Clock = long, c.now
	o.OnCommit = func(c store.Commit) { fanout.Wake(c.Tasks) }
	st := storetest.Open(t, o)
	authorizer, err := auth.NewAuthorizer(auth.AuthorizerOptions{Tokens: auth.AccessTokens{Admin: adminToken, Agent: "the-agents-own-token"}})
	if err != nil {
		t.Fatal(err)
	}
	keys := func() [][]byte { return [][]byte{make([]byte, ed25519.PublicKeySize)} }
	enroller := auth.NewEnroller(auth.EnrollerOptions{Store: st, Keys: keys, Log: slog.New(slog.DiscardHandler)})
	engine := rollout.New(rollout.Options{Store: st, Log: slog.New(slog.DiscardHandler), Finished: func([]tasker.Task) {}, Poll: 20 * time.Millisecond})
	reg := prometheus.NewRegistry()
	caller := callback.New(callback.Options{
		Store: st, Key: callback.NewKey([]byte("a secret")), Check: urlrules.Rules{}.Check, Version: "1.2.3", Log: slog.New(slog.DiscardHandler), Metrics: callback.NewMetrics(reg), Poll: 20 * time.Millisecond,
	})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{engine.Run, caller.Run} {
		running.Go(func() { _ = run(ctx) }) // it returns when it is stopped
	}
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	a, err := api.New(api.Options{
		Store: st, Types: []api.TaskType{{Name: "ping", Handler: "ping", CanUndo: true}}, Watch: fanout, Authorizer: authorizer, Enroller: enroller,
		Checks: map[string]func(context.Context) error{"database": st.Check}, CheckCallback: urlrules.Rules{Setting: "callbacks.allow"}.Check, CheckGate: urlrules.Rules{Setting: "gates.allow"}.Check,
		ReceiveTimeout: long, Version: "1.2.3", Log: slog.New(slog.DiscardHandler),
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

// startReceiver starts a receiver of callbacks. The path selects its response.
func startReceiver(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/gone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
	mux.HandleFunc("/busy", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// agents sends reports in place of agents. Each script uses its own endpoint names.
type agents struct {
	store *store.Store
	clock *shiftedClock
}

// hello ENDPOINT [ROLE] reports that an endpoint has connected.
func (a agents) hello(ts *testscript.TestScript, _ bool, args []string) {
	role := "web"
	if len(args) > 1 {
		role = args[1]
	}
	a.apply(ts, tasker.Report{Endpoint: args[0], Hello: &tasker.Hello{Session: "s", Presence: tasker.Presence{
		Version: "1.2.3", Handlers: []string{"ping"}, Labels: map[string]string{"role": role},
	}}})
}

// report IDENTIFIER ENDPOINT STATUS PERCENT MESSAGE [OUTPUT] reports an update; an ended
// task took 1.5 s. The message may be @FILE, and the output is quoted as in Go.
func (a agents) report(ts *testscript.TestScript, _ bool, args []string) {
	task, err := a.store.Task(context.Background(), "ping", args[0])
	ts.Check(err)
	percent, err := strconv.ParseFloat(args[3], 64)
	ts.Check(err)
	seq, err := strconv.ParseInt(args[3], 10, 64)
	ts.Check(err)
	message := args[4]
	if file, isFile := strings.CutPrefix(message, "@"); isFile {
		message = ts.ReadFile(file)
	}
	output := "hello from " + args[1] + "\n"
	if len(args) > 5 {
		output, err = strconv.Unquote(args[5])
		ts.Check(err)
	}
	now := a.clock.now()
	u := &tasker.Update{
		TaskID: task.ID, Type: task.Type, Attempt: 1, Seq: seq + 1, Status: tasker.ResponseStatus(args[2]),
		ReceivedAt: &now, StartedAt: &now, Progress: &tasker.Progress{Percent: percent, Message: message},
		Output: []tasker.Chunk{{Data: []byte(output)}}, OutputBytes: int64(len(output)),
	}
	if u.Status.Ended() {
		const took = 1500 * time.Millisecond
		a.clock.ahead.Add(int64(took))
		end := now.Add(took)
		u.FinishedAt = &end
		u.Result = json.RawMessage(`{"pong":true}`)
	}
	if u.Status == tasker.Failed {
		u.Error = message
	}
	a.apply(ts, tasker.Report{Endpoint: args[1], Update: u})
}

func (a agents) apply(ts *testscript.TestScript, r tasker.Report) {
	r.Version, r.Instance = tasker.WireVersion, fmt.Sprintf("instance-of-%s", r.Endpoint)
	_, err := a.store.Apply(context.Background(), []tasker.Report{r})
	ts.Check(err)
}
