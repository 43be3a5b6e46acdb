package api_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/controlplane/urlrules"
	"github.com/MatthiasWiesner/tasker/controlplane/watch"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/syncbuffer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const seedBody = `{
   "identifier":"e7bd91d0-16ad-11e2-892e-0800200c9a66",
   "payload":{
	  "foo":"bar"
   },
   "endpoints":[
	  "loadbalancer-1",
	  "loadbalancer-2"
   ]
}`

const commandSchema = `{
	"type": "object", "additionalProperties": false, "required": ["argv"],
	"properties": {
		"argv": {"type": "array", "minItems": 1, "items": {"type": "string"}, "description": "The program and its arguments."},
		"undo": {"type": "array", "minItems": 1, "items": {"type": "string"}}
	},
	"examples": [{"argv": ["/usr/bin/uptime"]}]
}`

// server is an API on a real store, behind a real HTTP server.
type server struct {
	*httptest.Server
	api   *api.API
	store *store.Store
	log   *syncbuffer.Buffer
	reg   *prometheus.Registry
}

// serve starts a server with the task types ping, which accepts and undoes any payload,
// and command, which has a schema, a timeout of 10m, and undoes payloads with undo.
func serve(t *testing.T, configure ...func(*api.Options)) *server {
	t.Helper()
	fanout := watch.NewFanout()
	o := storetest.SQLite(t)
	o.Types = []tasker.TaskType{{Name: "ping", Handler: "ping"}, {Name: "command", Handler: "command", Timeout: 10 * time.Minute}}
	o.Heartbeat = 10 * time.Minute // no endpoint becomes silent on a slow machine
	o.OnCommit = func(c store.Commit) { fanout.Wake(c.Tasks) }
	st := storetest.Open(t, o)
	return serveStore(t, st, fanout, configure...)
}

// serveStore starts a server on a store that others may use too.
func serveStore(t *testing.T, st *store.Store, fanout *watch.Fanout, configure ...func(*api.Options)) *server {
	t.Helper()
	authorizer, err := auth.NewAuthorizer(auth.AuthorizerOptions{Disabled: true})
	if err != nil {
		t.Fatal(err)
	}
	schema, err := handlers.CompileSchema(json.RawMessage(commandSchema))
	if err != nil {
		t.Fatal(err)
	}
	keys := func() [][]byte { return [][]byte{make([]byte, ed25519.PublicKeySize)} }
	enroller := auth.NewEnroller(auth.EnrollerOptions{Store: st, Keys: keys, Log: slog.New(slog.DiscardHandler)})
	s := &server{store: st, log: &syncbuffer.Buffer{}, reg: prometheus.NewRegistry()}
	options := api.Options{
		Store: st,
		Types: []api.TaskType{
			{Name: "ping", Handler: "ping", CanUndo: true},
			{
				Name: "command", Handler: "command", Schema: json.RawMessage(commandSchema), Validate: schema.Validate, Timeout: 10 * time.Minute,
				CanUndo: true, UndoRequires: "undo",
			},
		},
		Watch: fanout, Authorizer: authorizer, Enroller: enroller,
		Checks: map[string]func(context.Context) error{
			"database": func(ctx context.Context) error { return st.Check(context.WithoutCancel(ctx)) }, // no timeout on a slow machine
		},
		CheckCallback: urlrules.Rules{Setting: "callbacks.allow"}.Check, CheckGate: urlrules.Rules{Setting: "gates.allow"}.Check, ReceiveTimeout: 30 * time.Second, Version: "1.2.3",
		Log:        slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: s.reg, Gatherer: s.reg,
	}
	for _, f := range configure {
		f(&options)
	}
	if s.api, err = api.New(options); err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewServer(s.api)
	t.Cleanup(func() {
		s.api.Drain()
		s.Close()
	})
	return s
}

// answer is an HTTP response.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request; header has pairs of names and values.
func (s *server) do(t *testing.T, method, path, body string, header ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost && body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Del(header[i])
		if header[i+1] != "" {
			r.Header.Set(header[i], header[i+1])
		}
	}
	client := *s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

// problem is an RFC 9457 problem.
type problem struct {
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Detail string       `json:"detail"`
	Errors []fieldError `json:"errors"`
}

type fieldError struct {
	Location string `json:"location"`
	Message  string `json:"message"`
}

// problem returns the problem in the answer, and fails the test without one of this status.
func (a answer) problem(t *testing.T, status int) problem {
	t.Helper()
	var p problem
	if a.status != status || a.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("got %d %s %.500s, want a problem of status %d", a.status, a.header.Get("Content-Type"), a.body, status)
	}
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatalf("problem: %v in %s", err, a.body)
	}
	if p.Status != status || p.Title != http.StatusText(status) || p.Detail == "" {
		t.Errorf("the problem is incomplete: %s", a.body)
	}
	return p
}

// decode decodes the JSON of an answer, and fails the test with another status.
func decode[T any](t *testing.T, a answer, status int) T {
	t.Helper()
	var v T
	if a.status != status || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("got %d %s %.500s, want JSON of status %d", a.status, a.header.Get("Content-Type"), a.body, status)
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%v in %.500s", err, a.body)
	}
	return v
}

func (s *server) create(t *testing.T, path, body string) tasker.Task {
	t.Helper()
	return decode[tasker.Task](t, s.do(t, http.MethodPost, path, body), http.StatusCreated)
}

// apply stores reports as the collector does.
func apply(t *testing.T, st *store.Store, reports ...tasker.Report) {
	t.Helper()
	if _, err := st.Apply(t.Context(), reports); err != nil {
		t.Fatal(err)
	}
}

func hello(endpoint string) tasker.Report {
	return tasker.Report{
		Version: tasker.WireVersion, Endpoint: endpoint, Instance: "instance-of-" + endpoint,
		Hello: &tasker.Hello{Session: "s", Presence: tasker.Presence{
			Version: "1.2.3", Handlers: []string{"ping", "command"},
			Labels: map[string]string{"role": "loadbalancer", "site.of/rack": "b-7"}, Metrics: endpoint + ".example:9464",
		}},
	}
}

// update returns a report on a task; seq is also its time in seconds.
func update(task tasker.Task, endpoint string, seq int64, status tasker.ResponseStatus) tasker.Report {
	now := task.CreatedAt.Add(time.Duration(seq) * time.Second)
	u := &tasker.Update{
		TaskID: task.ID, Type: task.Type, Attempt: 1, Seq: seq, Status: status, ReceivedAt: &now, StartedAt: &now,
		Result: json.RawMessage(`{"pong":true}`),
	}
	if status.Ended() {
		u.FinishedAt = &now
	}
	return tasker.Report{Version: tasker.WireVersion, Endpoint: endpoint, Instance: "instance-of-" + endpoint, Update: u}
}
