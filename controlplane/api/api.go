// Package api is the HTTP interface of the control plane. The router authorizes each
// request, a middleware or parser validates it, and the handler of its resource calls
// the store.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/watch"
)

// TaskType is a configured task type.
type TaskType struct {
	Name string
	// Handler performs tasks of the type on the agents.
	Handler string
	// Summary describes the type in one sentence.
	Summary string
	// Schema is the JSON Schema of the payload in the documentation; nil accepts any
	// payload.
	Schema json.RawMessage
	// Validate checks a payload; nil accepts any payload.
	Validate func(payload json.RawMessage) error
	// Timeout bounds the execution. A task can only lower it. Zero is no bound.
	Timeout time.Duration
	// CanUndo is false if the handler is known to be unable to undo a task.
	CanUndo bool
	// UndoRequires is the payload field that the handler needs to undo a task; empty is none.
	UndoRequires string
}

// Options configure an API. All are mandatory unless their comment says otherwise.
type Options struct {
	Store *store.Store
	Types []TaskType
	// Watch wakes event streams.
	Watch      *watch.Fanout
	Authorizer *auth.Authorizer
	Enroller   *auth.Enroller
	// Fingerprint identifies the server's self-made certificate and is appended to
	// enrolment tokens; it may be empty.
	Fingerprint string
	// Agents serves the paths below /agent/; nil if agents do not connect by HTTP.
	Agents http.Handler
	// Checks are the readiness checks by the name of their part; they may be empty.
	Checks map[string]func(context.Context) error
	// PromQL permits rollout gates with a Prometheus query.
	PromQL bool
	// CheckCallback returns an error if the URL of a callback is not permitted. The
	// error completes a sentence that begins with the field's name.
	CheckCallback func(url string) error
	// CheckGate does the same for the URL of a rollout gate.
	CheckGate func(url string) error
	// ReceiveTimeout applies to tasks that set none.
	ReceiveTimeout time.Duration
	Version        string
	Log            *slog.Logger
	Registerer     prometheus.Registerer
	// Gatherer provides the metrics at /metrics.
	Gatherer prometheus.Gatherer
}

func (o Options) validate() error {
	missing := o.Store == nil || o.Watch == nil || o.Authorizer == nil || o.Enroller == nil
	missing = missing || o.Log == nil || o.Registerer == nil || o.Gatherer == nil
	missing = missing || o.CheckCallback == nil || o.CheckGate == nil || len(o.Types) == 0 || o.ReceiveTimeout <= 0
	if missing {
		return errors.New("api: a mandatory option is missing")
	}
	return nil
}

// API is the http.Handler of the control plane's API.
type API struct {
	opts      Options
	mux       *http.ServeMux
	handler   http.Handler
	draining  chan struct{}
	drainOnce sync.Once
}

// New returns an API.
func New(o Options) (*API, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	a := &API{opts: o, mux: http.NewServeMux(), draining: make(chan struct{})}
	metrics := newMetrics(o.Registerer)
	shared := resource{huma: humago.New(a.mux, openAPIConfig(o.Version, !o.Authorizer.Disabled())), store: o.Store, log: o.Log}
	shared.huma.OpenAPI().Tags = tags(o.Types)
	shared.huma.UseMiddleware(shared.rejectAmbiguousQuery)
	for _, t := range o.Types {
		tasks := taskResource{typeResource: typeResource{shared, t}, opts: &a.opts, created: metrics.created.WithLabelValues(t.Name)}
		if err := tasks.register(); err != nil {
			return nil, err
		}
		eventResource{typeResource: tasks.typeResource, watch: o.Watch, watchers: metrics.watchers, draining: a.draining}.register()
		outputResource{tasks.typeResource}.register()
	}
	endpointResource{shared}.register()
	enrolmentResource{shared, endpointResource{shared}, o.Enroller, o.Fingerprint}.register()
	healthResource{shared, o.Checks, o.Version}.register()
	a.mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{}))
	if o.Agents != nil {
		a.mux.Handle(agentsPath, o.Agents)
	}
	document, err := completeOpenAPI(shared.huma.OpenAPI())
	if err != nil {
		return nil, err
	}
	a.registerDocs(document)
	a.handler = requestLogger{o.Log, metrics}.wrap(http.HandlerFunc(a.route))
	return a, nil
}

// ServeHTTP serves a request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Drain ends the event streams, which would otherwise keep a server from shutting down.
// Clients resume their streams later.
func (a *API) Drain() { a.drainOnce.Do(func() { close(a.draining) }) }

func (a *API) typeNames() []string {
	names := make([]string, 0, len(a.opts.Types))
	for _, t := range a.opts.Types {
		names = append(names, t.Name)
	}
	return names
}

func (a *API) hasType(name string) bool {
	return slices.ContainsFunc(a.opts.Types, func(t TaskType) bool { return t.Name == name })
}
