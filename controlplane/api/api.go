// Package api is the HTTP API of the control plane. The router authorizes each request,
// middleware and parsers validate it, and its resource serves it from the store.
package api

import (
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// API is the http.Handler of the control plane's API.
type API struct {
	handler   http.Handler
	refusals  *refusalLog
	draining  chan struct{}
	drainOnce sync.Once
}

// New returns an API.
func New(o Options) (*API, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Creator == nil {
		o.Creator = o.Store
	}
	a := &API{refusals: newRefusalLog(o.Log), draining: make(chan struct{})}
	mux := http.NewServeMux()
	metrics := newMetrics(o.Registerer)
	shared := resource{huma: humago.New(mux, openAPIConfig(o.Version, !o.Authorizer.Disabled())), store: o.Store, log: o.Log}
	shared.huma.OpenAPI().Tags = tags(o.Types)
	shared.huma.UseMiddleware(shared.rejectAmbiguousQuery, shared.rejectEncodedBody)
	poller := newPoller(o)
	types := make([]string, 0, len(o.Types))
	for _, t := range o.Types {
		types = append(types, t.Name)
		tasks := taskResource{typeResource: typeResource{shared, t}, opts: &o, created: metrics.created.WithLabelValues(t.Name)}
		if err := tasks.register(); err != nil {
			return nil, err
		}
		eventResource{typeResource: tasks.typeResource, poller: poller, watchers: metrics.watchers, draining: a.draining}.register()
		outputResource{tasks.typeResource}.register()
	}
	endpointResource{shared}.register()
	enrolmentResource{shared, endpointResource{shared}, o.Enroller, o.Authorizer, o.CertificateFingerprint}.register()
	healthResource{shared, o.Checks, o.Version}.register()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{}))
	if o.Agents != nil {
		mux.Handle(agentsPath, o.Agents)
	}
	document, err := completeOpenAPI(shared.huma.OpenAPI())
	if err != nil {
		return nil, err
	}
	registerDocs(mux, newRoot(o.Version, types), document)
	a.handler = requestLogger{o.Log, metrics, a.refusals}.wrap(router{mux, o.Authorizer, types, o.Agents != nil})
	return a, nil
}

// ServeHTTP serves a request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Drain ends the event streams, which would otherwise keep a server from shutting down.
// Clients resume their streams later.
func (a *API) Drain() {
	a.drainOnce.Do(func() {
		close(a.draining)
		a.refusals.close()
	})
}
