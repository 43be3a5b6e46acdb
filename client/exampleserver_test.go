package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/urlrules"
	"github.com/MatthiasWiesner/tasker/controlplane/watch"
)

// exampleServer is the API of a control plane on SQLite, for the examples. The endpoints
// web-1 and web-2 are connected and serve the task type ping.
type exampleServer struct {
	*httptest.Server
	api   *api.API
	store *store.Store
	dir   string
}

// startServer starts an exampleServer, and a client of it.
func startServer() (*exampleServer, *client.Client) {
	s := &exampleServer{dir: must(os.MkdirTemp("", "tasker-example-"))}
	ctx, fanout, log := context.Background(), watch.NewFanout(), slog.New(slog.DiscardHandler)
	s.store = must(store.Open(ctx, store.Options{
		URI: "sqlite:tasker.db", DataDir: s.dir, Types: []tasker.TaskType{{Name: "ping", Handler: "ping"}},
		Heartbeat: time.Hour, OnCommit: func(c store.Commit) { fanout.Wake(c.Tasks) },
	}))
	check(s.store.Migrate(ctx))
	reg := prometheus.NewRegistry()
	s.api = must(api.New(api.Options{
		Store: s.store, Types: []api.TaskType{{Name: "ping", Handler: "ping", CanUndo: true}}, Watch: fanout,
		Authorizer:    must(auth.NewAuthorizer(auth.AuthorizerOptions{Tokens: auth.AccessTokens{Admin: "s3cret", Agent: "agents-s3cret"}})),
		Enroller:      auth.NewEnroller(auth.EnrollerOptions{Store: s.store, Keys: func() [][]byte { return nil }, Log: log}),
		CheckCallback: urlrules.Rules{}.Check, CheckGate: urlrules.Rules{}.Check,
		ReceiveTimeout: time.Hour, Version: "1.2.3", Log: log, Registerer: reg, Gatherer: reg,
	}))
	s.Server = httptest.NewServer(s.api)
	for _, name := range []string{"web-1", "web-2"} {
		s.apply(tasker.Report{Endpoint: name, Hello: &tasker.Hello{Session: "s", Presence: tasker.Presence{Version: "1.2.3", Handlers: []string{"ping"}}}})
	}
	return s, must(client.New(client.Options{URL: s.URL, Token: "s3cret", UserAgent: "example"}))
}

// stop stops the server and removes its data.
func (s *exampleServer) stop() {
	s.api.Drain()
	s.Close()
	check(s.store.Close())
	check(os.RemoveAll(s.dir))
}

// perform reports, for both agents, that a task has succeeded.
func (s *exampleServer) perform(t tasker.Task) {
	for _, name := range []string{"web-1", "web-2"} {
		now := time.Now()
		s.apply(tasker.Report{Endpoint: name, Update: &tasker.Update{
			TaskID: t.ID, Type: t.Type, Attempt: 1, Seq: 1, Status: tasker.Succeeded,
			ReceivedAt: &now, StartedAt: &now, FinishedAt: &now, Result: json.RawMessage(`{"pong":true}`),
		}})
	}
}

func (s *exampleServer) apply(r tasker.Report) {
	r.Version, r.Instance = tasker.WireVersion, "instance-of-"+r.Endpoint
	must(s.store.Apply(context.Background(), []tasker.Report{r}))
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		panic(fmt.Sprintf("the server of the example: %v", err))
	}
}
