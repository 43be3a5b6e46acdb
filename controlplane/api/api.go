// Package api is the control plane's HTTP interface: tasks, their events and
// output, endpoints, health, metrics, and the description of all that.
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

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/watch"
)

// Type is a configured task type, as the API sees it.
type Type struct {
	Name string
	// Handler performs it on the agents.
	Handler string
	// Summary is one sentence for people.
	Summary string
	// Schema is the JSON Schema of the payload, shown to people; nil is anything.
	Schema json.RawMessage
	// Validate says what is wrong with a payload; nil takes anything.
	Validate func(payload json.RawMessage) error
	// Timeout bounds the execution; a task may only lower it. Zero is none.
	Timeout time.Duration
	// Undoes: the handler can undo a task, or it is not known whether it can.
	Undoes bool
	// UndoNeeds is the field of the payload without which it cannot; empty is none.
	UndoNeeds string
}

// Options say what an API needs; all are mandatory unless they say otherwise.
type Options struct {
	Store *store.Store
	Types []Type
	// Watch wakes the streams of events.
	Watch      *watch.Fanout
	Authorizer *auth.Authorizer
	Enroller   *auth.Enroller
	// Fingerprint is that of a certificate that the server has made itself; it goes
	// with the enrolment tokens. Empty is none.
	Fingerprint string
	// Agents answers below /agent/; nil where agents do not connect here.
	Agents http.Handler
	// Checks are the parts that must be there for the control plane to be ready.
	Checks map[string]func(context.Context) error
	// PromQL: gates of rollouts may ask Prometheus.
	PromQL bool
	// CheckCallback says, as the end of a sentence, why a URL may not be called.
	CheckCallback func(url string) error
	// CheckGate says the same of the URL of a rollout's gate.
	CheckGate func(url string) error
	// ReceiveTimeout is that of tasks that name none.
	ReceiveTimeout time.Duration
	Version        string
	Log            *slog.Logger
	Registerer     prometheus.Registerer
	// Gatherer is what /metrics shows.
	Gatherer prometheus.Gatherer
}

// API is an http.Handler.
type API struct {
	store          *store.Store
	types          []Type
	watch          *watch.Fanout
	authorizer     *auth.Authorizer
	enroller       *auth.Enroller
	certificate    string // its fingerprint
	agents         bool
	checks         map[string]func(context.Context) error
	promQL         bool
	checkCallback  func(url string) error
	checkGate      func(url string) error
	receiveTimeout time.Duration
	version        string
	log            *slog.Logger
	metrics        *Metrics

	mux       *http.ServeMux
	huma      huma.API
	handler   http.Handler
	draining  chan struct{}
	drainOnce sync.Once
}

// New makes an API.
func New(o Options) (*API, error) {
	if o.Store == nil || o.Watch == nil || o.Authorizer == nil || o.Enroller == nil || o.Log == nil || o.Registerer == nil || o.Gatherer == nil || o.CheckCallback == nil || o.CheckGate == nil || len(o.Types) == 0 || o.ReceiveTimeout <= 0 {
		return nil, errors.New("api: an option is missing")
	}
	a := &API{
		store: o.Store, types: o.Types, watch: o.Watch, authorizer: o.Authorizer, enroller: o.Enroller, certificate: o.Fingerprint, agents: o.Agents != nil, checks: o.Checks,
		promQL: o.PromQL, checkCallback: o.CheckCallback, checkGate: o.CheckGate, receiveTimeout: o.ReceiveTimeout, version: o.Version, log: o.Log, metrics: NewMetrics(o.Registerer),
		mux: http.NewServeMux(), draining: make(chan struct{}),
	}
	a.huma = humago.New(a.mux, describe(o.Version, !o.Authorizer.Disabled()))
	a.huma.OpenAPI().Tags = tags(a.types)
	a.huma.UseMiddleware(a.plainQuery)
	for _, t := range a.types {
		if err := a.taskType(t); err != nil {
			return nil, err
		}
		a.metrics.created.WithLabelValues(t.Name)
	}
	a.endpointRoutes()
	a.enrolRoutes()
	a.healthRoutes()
	a.mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{}))
	if o.Agents != nil {
		a.mux.Handle(agentsPath, o.Agents)
	}
	spec, err := explain(a.huma.OpenAPI())
	if err != nil {
		return nil, err
	}
	a.docsRoutes(spec)
	a.handler = a.observe(http.HandlerFunc(a.route))
	return a, nil
}

// ServeHTTP answers a request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Drain ends the streams of events, which would otherwise keep a server from
// shutting down. Clients resume where they were.
func (a *API) Drain() { a.drainOnce.Do(func() { close(a.draining) }) }

func (a *API) typeNames() []string {
	names := make([]string, 0, len(a.types))
	for _, t := range a.types {
		names = append(names, t.Name)
	}
	return names
}

func (a *API) hasType(name string) bool {
	return slices.ContainsFunc(a.types, func(t Type) bool { return t.Name == name })
}
