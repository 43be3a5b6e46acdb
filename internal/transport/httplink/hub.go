package httplink

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

// HubOptions configure a Hub.
type HubOptions struct {
	// Types are the configured task types.
	Types []tasker.TaskType
	// Heartbeat is the interval of the agents' heartbeats, unless a welcome or the agent
	// sets a longer one. An agent that has sent a hello and then no report for three intervals loses its
	// stream, and its name to another agent that requests it. Zero means 10 s.
	Heartbeat time.Duration
	// Keepalive is the interval of keepalives on idle streams; zero means 5 s. In a large
	// fleet the interval is up to four times as long.
	Keepalive time.Duration
	// WriteTimeout is how long an agent may read nothing before the hub ends its stream;
	// zero means 10 s.
	WriteTimeout time.Duration
	// SendTimeout is how long a Send waits for an agent to read; zero means 3 s. After that
	// the agent is slow: it gets no further orders until it has read the queued ones, so
	// that it does not delay other agents.
	SendTimeout time.Duration
	// Authorize returns an error if a request may not use the endpoint name in its
	// header; nil authorizes every request. An error that wraps
	// transport.ErrUnavailable means that this cannot be decided now. The Hub calls
	// Authorize again after it has opened a stream and after it has read the reports of
	// a request. So a revoked agent is either refused or stopped by Disconnect,
	// whenever it is revoked.
	Authorize func(r *http.Request, endpoint string) error
	// HasOwnCredential reports whether the caller of a request has a credential that no
	// other endpoint has. While the agent of an endpoint is alive, reports of another
	// instance are refused from other callers. nil means that no caller has one.
	HasOwnCredential func(r *http.Request) bool
	Log              *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
	// Clock returns the time for the silence of agents and the expiry of orders; nil
	// means time.Now.
	Clock func() time.Time
}

// setDefaults replaces zero values.
func (o *HubOptions) setDefaults() {
	o.Heartbeat = cmp.Or(o.Heartbeat, 10*time.Second)
	o.Keepalive = cmp.Or(o.Keepalive, 5*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 10*time.Second)
	o.SendTimeout = cmp.Or(o.SendTimeout, 3*time.Second)
	if o.Clock == nil {
		o.Clock = time.Now
	}
}

// Hub is the control plane's end. It owns the streams: the shutdown of the server that
// calls Handler does not end them, but Close does, and waits.
type Hub struct {
	opts       HubOptions
	streams    *registry
	inbox      *inbox
	quota      *wire.Quota
	refusals   *wire.Refusals
	operations *wire.Operations
}

// NewHub returns a Hub; Close must be called.
func NewHub(opts HubOptions) *Hub {
	opts.setDefaults()
	h := &Hub{
		opts: opts, streams: newRegistry(opts), quota: wire.NewQuota(opts.Clock), refusals: wire.NewRefusals(opts.Log, opts.Clock),
		operations: wire.NewOperations(),
	}
	h.inbox = newInbox(opts.Log, h.operations)
	if end, ok := h.operations.Start(); ok {
		go func() {
			defer end()
			h.streams.monitor(h.operations.Done())
		}()
	}
	return h
}

// Handler serves the requests of the agents, below /agent/.
func (h *Hub) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+ordersPath, h.serveOrders)
	mux.HandleFunc("POST "+reportsPath, h.serveReports)
	return mux
}

// Close implements transport.Hub. It ends the streams. A server with streams on shared
// connections (HTTP/2) can shut down only after that.
func (h *Hub) Close() error {
	h.streams.close()
	h.operations.Close()
	h.operations.Wait()
	return nil
}

// Disconnect ends the endpoint's stream at once. Authorize decides whether its agent
// may open another.
func (h *Hub) Disconnect(endpoint string) { h.streams.disconnect(endpoint) }

// Receive implements transport.Hub. Reports that arrive while a batch is being stored make
// the next batch.
func (h *Hub) Receive(ctx context.Context, handle func(context.Context, []tasker.Report) error) error {
	return h.inbox.receive(ctx, handle)
}

// Send implements transport.Hub. An order is accepted after it is written to the stream of
// its endpoint. An order to all endpoints is queued for each open stream; an agent whose
// stream breaks reconnects and sends a hello.
func (h *Hub) Send(ctx context.Context, orders ...tasker.Order) error {
	if h.operations.Closed() {
		return transport.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	failed, waiting := map[int]error{}, map[int]*stream{}
	results := make(chan writeResult, len(orders))
	for i, o := range orders {
		s, err := h.enqueue(o, frame{index: i, results: results})
		switch {
		case err != nil:
			failed[i] = err
		case s != nil:
			waiting[i] = s
		}
	}
	if err := h.awaitWrites(ctx, waiting, results, failed); err != nil {
		return err
	}
	if len(failed) > 0 {
		return &transport.SendError{Failed: failed, Of: len(orders)}
	}
	return nil
}

// enqueue appends an order to the stream or streams of its receivers. It returns the stream
// that will report the result, or nil if none will.
func (h *Hub) enqueue(o tasker.Order, f frame) (*stream, error) {
	toAll := o.Endpoint == tasker.AllEndpoints
	if o.Assignment != nil || toAll {
		if err := wire.CheckType(h.opts.Types, o.Type); err != nil {
			return nil, err
		}
	}
	if !o.Expires.IsZero() && o.Expires.Before(h.opts.Clock()) {
		return nil, nil
	}
	body, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("%w: encode the order: %w", transport.ErrRefused, err)
	}
	f.body = append(body, '\n')
	if toAll {
		f.results = nil
		h.streams.broadcast(o.Type, f)
		return nil, nil
	}
	return h.streams.enqueue(o, f)
}

// awaitWrites collects the results of the waiting orders in failed. It returns the error of
// ctx if that is done before.
func (h *Hub) awaitWrites(ctx context.Context, waiting map[int]*stream, results <-chan writeResult, failed map[int]error) error {
	timeout := time.NewTimer(h.opts.SendTimeout)
	defer timeout.Stop()
	for len(waiting) > 0 {
		select {
		case r := <-results:
			delete(waiting, r.index)
			if r.err != nil {
				failed[r.index] = r.err
			}
			continue
		case <-timeout.C:
		case <-ctx.Done():
		}
		for i, s := range waiting {
			s.markSlow()
			failed[i] = errSlow
		}
		return ctx.Err()
	}
	return nil
}
