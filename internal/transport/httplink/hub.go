package httplink

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// HubOptions say what a Hub works with.
type HubOptions struct {
	// Types are the configured task types.
	Types []tasker.TaskType
	// Heartbeat is the agents' interval, unless a welcome or the agent says a longer
	// one. An agent that was silent for three of them has lost its stream, and its
	// name to another agent that asks for it. 10 s when zero.
	Heartbeat time.Duration
	// Keepalive is the interval of signs of life on idle streams; 5 s when zero.
	// Streams that are opened in a large fleet have up to four times as much.
	Keepalive time.Duration
	// WriteTimeout is how long an agent may read nothing of what is written to it
	// before it counts as gone; 10 s when zero.
	WriteTimeout time.Duration
	// Patience is how long a Send waits for an agent to read; 3 s when zero. After
	// that the agent is behind: until it has read what waits for it, it gets nothing
	// more, and holds up nobody else.
	Patience time.Duration
	// Authorize returns an error if a request may not use the endpoint name in its
	// header; nil authorizes every request. An error that wraps
	// transport.ErrUnavailable means that this cannot be decided now. The Hub calls
	// Authorize again after it has opened a stream and after it has read the reports of
	// a request. So a revoked agent is either refused or stopped by Disconnect,
	// whenever it is revoked.
	Authorize func(r *http.Request, endpoint string) error
	Log       *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
	// Clock is time.Now unless set; the silence of agents and the expiry of
	// orders go by it.
	Clock func() time.Time
}

// Hub is the control plane's end. The streams are the Hub's, not those of the server
// that calls Handler, whose shutdown does not end them; Close does, and waits.
type Hub struct {
	opts  HubOptions
	posts chan post
	// bodies bounds the memory for reports that wait to be stored.
	bodies *semaphore.Weighted

	ctx  context.Context // done, with cause ErrClosed, when the hub is closed
	end  context.CancelCauseFunc
	work sync.WaitGroup // the streams, the signs of life and Receive

	mu      sync.Mutex
	closed  bool
	streams map[string]*stream
}

// allBodies is the most memory, in bytes, for reports that wait to be stored.
const allBodies = 64 << 20

// NewHub makes a Hub; Close must be called.
func NewHub(opts HubOptions) *Hub {
	if opts.Heartbeat == 0 {
		opts.Heartbeat = 10 * time.Second
	}
	if opts.Keepalive == 0 {
		opts.Keepalive = 5 * time.Second
	}
	if opts.Patience == 0 {
		opts.Patience = 3 * time.Second
	}
	if opts.WriteTimeout == 0 {
		opts.WriteTimeout = 10 * time.Second
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	h := &Hub{
		opts: opts, posts: make(chan post), bodies: semaphore.NewWeighted(allBodies),
		streams: map[string]*stream{},
	}
	h.ctx, h.end = context.WithCancelCause(context.Background())
	h.work.Go(h.attend)
	return h
}

// Handler answers the agents, below /agent/.
func (h *Hub) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+ordersPath, h.serveOrders)
	mux.HandleFunc("POST "+reportsPath, h.serveReports)
	return mux
}

// Close implements transport.Hub. It ends the streams; a server with streams whose
// connections are shared (HTTP/2) can shut down then only.
func (h *Hub) Close() error {
	h.mu.Lock()
	h.closed = true
	for _, s := range h.streams {
		s.end(transport.ErrClosed)
	}
	h.mu.Unlock()
	h.end(transport.ErrClosed)
	h.work.Wait()
	return nil
}

// Disconnect ends the endpoint's stream at once. Authorize decides whether its agent
// may open another.
func (h *Hub) Disconnect(endpoint string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.streams[endpoint]; s != nil {
		delete(h.streams, endpoint)
		s.end(errDisconnected)
	}
}

// begin counts a piece of work that Close waits for; false after Close.
func (h *Hub) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.work.Add(1)
	}
	return !h.closed
}

// learn remembers what the endpoint serves, and that it lives.
func (h *Hub) learn(r tasker.Report) {
	var p *tasker.Presence
	switch {
	case r.Hello != nil:
		p = &r.Hello.Presence
	case r.Heartbeat != nil:
		p = &r.Heartbeat.Presence
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.streams[r.Endpoint]
	if s == nil || s.instance != r.Instance {
		return
	}
	s.heard = h.opts.Clock()
	if p == nil || s.serves == nil && r.Hello == nil {
		return
	}
	s.beat = p.Heartbeat.D()
	s.serves = make(map[string]bool, len(h.opts.Types))
	for _, t := range h.opts.Types {
		if t.ServedBy(*p) {
			s.serves[t.Name] = true
		}
	}
}

// attend gives the idle streams their signs of life, and ends those whose agent
// fell silent: what is written to them reaches nobody. One goroutine serves all
// streams; it looks often, so that they are not all written to at once.
func (h *Hub) attend() {
	tick := time.NewTicker(max(h.opts.Keepalive/5, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-tick.C:
		}
		h.mu.Lock()
		heard, wrote := h.opts.Clock(), time.Now()
		for _, s := range h.streams {
			if s.serves != nil && h.silent(s, heard) {
				s.end(errSilentAgent)
			}
			s.keepAlive(wrote)
		}
		h.mu.Unlock()
	}
}

// keepalive is the interval for a stream that is opened as one of so many: about 100
// signs of life a second, but no fewer than proxies want to see.
func (h *Hub) keepalive(streams int) time.Duration {
	return min(max(time.Duration(streams)*time.Second/100, h.opts.Keepalive), 4*h.opts.Keepalive)
}

// silent says whether the agent has not been heard of for too long.
func (h *Hub) silent(s *stream, now time.Time) bool {
	return now.Sub(s.heard) >= h.silence(s)
}

// silence is for how long the agent may be silent. It belongs to the mutex.
func (h *Hub) silence(s *stream) time.Duration {
	return 3 * max(h.opts.Heartbeat, min(s.beat, time.Hour))
}
