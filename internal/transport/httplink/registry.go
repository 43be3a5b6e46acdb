package httplink

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// registry holds the open streams, at most one for each endpoint.
type registry struct {
	opts HubOptions

	mu      sync.Mutex
	closed  bool
	streams map[string]*stream // by endpoint
}

func newRegistry(opts HubOptions) *registry {
	return &registry{opts: opts, streams: map[string]*stream{}}
}

// add makes s the endpoint's stream. It replaces an older stream of the same instance.
// Another instance is refused while the agent with this name is alive.
func (g *registry) add(s *stream) *problem {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return stopping()
	}
	if old := g.streams[s.endpoint]; old != nil {
		now := g.opts.Clock()
		if old.instance != s.instance && !g.isSilentLocked(old, now) {
			return newProblem(http.StatusConflict,
				"endpoint name %q is in use by another agent, which last reported %s ago; give each server its own name, or stop the other agent (an agent loses its name after %s without a report)",
				s.endpoint, now.Sub(old.lastReport).Round(time.Second), g.maxSilenceLocked(old))
		}
		g.opts.Log.Info("stream of orders replaced; if this goes on, two agents use copies of one data directory", "endpoint", s.endpoint)
		old.end(errReplaced)
	}
	g.streams[s.endpoint] = s
	s.keepaliveInterval = g.keepaliveInterval(len(g.streams))
	return nil
}

// remove removes a stream that has ended or never began, and fails its queued orders.
func (g *registry) remove(s *stream, reason error) {
	g.mu.Lock()
	if g.streams[s.endpoint] == s {
		delete(g.streams, s.endpoint)
	}
	g.mu.Unlock()
	s.end(reason)
	reportResults(s.dequeue(), transport.ErrOffline)
}

// disconnect ends the endpoint's stream.
func (g *registry) disconnect(endpoint string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.streams[endpoint]; s != nil {
		delete(g.streams, endpoint)
		s.end(errDisconnected)
	}
}

// close ends all streams and refuses further ones.
func (g *registry) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, s := range g.streams {
		s.end(transport.ErrClosed)
	}
}

// isConfigured reports whether the task type is configured.
func (g *registry) isConfigured(taskType string) bool {
	return slices.ContainsFunc(g.opts.Types, func(t tasker.TaskType) bool { return t.Name == taskType })
}

// update records that the agent is alive and which task types it serves.
func (g *registry) update(r tasker.Report) {
	var p *tasker.Presence
	switch {
	case r.Hello != nil:
		p = &r.Hello.Presence
	case r.Heartbeat != nil:
		p = &r.Heartbeat.Presence
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.streams[r.Endpoint]
	if s == nil || s.instance != r.Instance {
		return
	}
	s.lastReport = g.opts.Clock()
	if p == nil || s.serves == nil && r.Hello == nil {
		return
	}
	s.heartbeat = p.Heartbeat.D()
	s.serves = make(map[string]bool, len(g.opts.Types))
	for _, t := range g.opts.Types {
		if t.ServedBy(*p) {
			s.serves[t.Name] = true
		}
	}
}

// broadcast appends a frame to each stream whose endpoint serves the task type.
func (g *registry) broadcast(taskType string, f frame) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.streams {
		if !s.serves[taskType] {
			continue
		}
		if err := s.enqueue(f); err != nil {
			s.end(err)
		}
	}
}

// enqueue appends the frame of an order to the stream of its endpoint.
func (g *registry) enqueue(o tasker.Order, f frame) (*stream, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.streams[o.Endpoint]
	switch {
	case s == nil || s.serves == nil: // no stream, or no hello yet
		return nil, transport.ErrOffline
	case o.Assignment != nil && !s.serves[o.Type]:
		return nil, fmt.Errorf("%w: %s does not serve task type %q", transport.ErrUnroutable, o.Endpoint, o.Type)
	}
	if err := s.enqueue(f); err != nil {
		return nil, err
	}
	if o.Welcome != nil {
		s.heartbeat = max(s.heartbeat, o.Welcome.Heartbeat.D())
	}
	return s, nil
}

// monitor sends keepalives on idle streams and ends the streams of silent agents, until
// done is closed. One goroutine serves all streams. It checks them more often than the
// keepalive interval, so that it does not write to all of them at once.
func (g *registry) monitor(done <-chan struct{}) {
	tick := time.NewTicker(max(g.opts.Keepalive/5, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		g.mu.Lock()
		now, written := g.opts.Clock(), time.Now()
		for _, s := range g.streams {
			if s.serves != nil && g.isSilentLocked(s, now) {
				s.end(errSilentAgent)
			}
			s.sendKeepalive(written)
		}
		g.mu.Unlock()
	}
}

// keepaliveInterval returns the interval for a new stream, given the number of streams. It limits
// the keepalives to about 100 per second, but stays short enough for proxies.
func (g *registry) keepaliveInterval(streams int) time.Duration {
	return min(max(time.Duration(streams)*time.Second/100, g.opts.Keepalive), 4*g.opts.Keepalive)
}

// isSilentLocked reports whether the agent has not reported for too long. It must be called
// with mu held.
func (g *registry) isSilentLocked(s *stream, now time.Time) bool {
	return now.Sub(s.lastReport) >= g.maxSilenceLocked(s)
}

// maxSilenceLocked returns how long the agent may send no report. It must be called with mu
// held.
func (g *registry) maxSilenceLocked(s *stream) time.Duration {
	return 3 * max(g.opts.Heartbeat, min(s.heartbeat, time.Hour))
}
