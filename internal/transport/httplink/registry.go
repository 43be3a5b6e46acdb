package httplink

import (
	"fmt"
	"net/http"
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

// add makes s the endpoint's stream. It replaces an older stream of the same process.
// Another instance or process is refused while the agent with this name is alive.
func (reg *registry) add(s *stream) *problem {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if reg.closed {
		return stopping()
	}
	if refusal := reg.checkHolderLocked(s.endpoint, s.instance); refusal != nil {
		return refusal
	}
	if old := reg.streams[s.endpoint]; old != nil {
		if old.instance == s.instance {
			if refusal := reg.checkProcessLocked(old, s); refusal != nil {
				return refusal
			}
		}
		reg.opts.Log.Info("stream of orders replaced", "endpoint", s.endpoint)
		old.end(errReplaced)
	}
	reg.streams[s.endpoint] = s
	s.keepaliveInterval = reg.keepaliveInterval(len(reg.streams))
	return nil
}

// checkHolder returns a problem while a live agent of another instance has the endpoint's
// name.
func (reg *registry) checkHolder(endpoint, instance string) *problem {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return reg.checkHolderLocked(endpoint, instance)
}

// checkHolderLocked is checkHolder. It must be called with mu held.
func (reg *registry) checkHolderLocked(endpoint, instance string) *problem {
	holder, now := reg.streams[endpoint], reg.opts.Clock()
	if holder == nil || holder.instance == instance || reg.isSilentLocked(holder, now) {
		return nil
	}
	return newProblem(http.StatusConflict,
		"endpoint name %q is in use by another agent, which last reported %s ago; give each server its own name, or stop the other agent (an agent loses its name after %s without a report)",
		endpoint, now.Sub(holder.lastReport).Round(time.Second), reg.maxSilenceLocked(holder))
}

// remove removes a stream that has ended or never began, and fails its queued orders. It
// reports whether the agent sent a hello.
func (reg *registry) remove(s *stream, reason error) (hadHello bool) {
	reg.mu.Lock()
	if reg.streams[s.endpoint] == s {
		delete(reg.streams, s.endpoint)
	}
	hadHello = s.serves != nil
	reg.mu.Unlock()
	s.end(reason)
	reportResults(s.dequeue(), transport.ErrOffline)
	return hadHello
}

// disconnect ends the endpoint's stream.
func (reg *registry) disconnect(endpoint string) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if s := reg.streams[endpoint]; s != nil {
		delete(reg.streams, endpoint)
		s.end(errDisconnected)
	}
}

// close ends all streams and refuses further ones.
func (reg *registry) close() {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.closed = true
	for _, s := range reg.streams {
		s.end(transport.ErrClosed)
	}
}

// update records that the agent is alive and which task types it serves.
func (reg *registry) update(r tasker.Report) {
	var p *tasker.Presence
	switch {
	case r.Hello != nil:
		p = &r.Hello.Presence
	case r.Heartbeat != nil:
		p = &r.Heartbeat.Presence
	}
	reg.mu.Lock()
	defer reg.mu.Unlock()
	s := reg.streams[r.Endpoint]
	if s == nil || s.instance != r.Instance {
		return
	}
	s.lastReport = reg.opts.Clock()
	if p == nil || s.serves == nil && r.Hello == nil {
		return
	}
	s.heartbeat = p.Heartbeat.D()
	s.serves = make(map[string]bool, len(reg.opts.Types))
	for _, t := range reg.opts.Types {
		if t.ServedBy(*p) {
			s.serves[t.Name] = true
		}
	}
}

// broadcast appends a frame to each stream whose endpoint serves the task type.
func (reg *registry) broadcast(taskType string, f frame) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	for _, s := range reg.streams {
		if !s.serves[taskType] {
			continue
		}
		if err := s.enqueue(f); err != nil {
			s.end(err)
		}
	}
}

// enqueue appends the frame of an order to the stream of its endpoint.
func (reg *registry) enqueue(o tasker.Order, f frame) (*stream, error) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	s := reg.streams[o.Endpoint]
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
func (reg *registry) monitor(done <-chan struct{}) {
	tick := time.NewTicker(max(reg.opts.Keepalive/5, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		reg.mu.Lock()
		now, written := reg.opts.Clock(), time.Now()
		for _, s := range reg.streams {
			if s.serves != nil && reg.isSilentLocked(s, now) {
				s.end(errSilentAgent)
			}
			s.sendKeepalive(written)
		}
		reg.mu.Unlock()
	}
}

// keepaliveInterval returns the interval for a new stream, given the number of streams. It limits
// the keepalives to about 100 per second, but stays short enough for proxies.
func (reg *registry) keepaliveInterval(streams int) time.Duration {
	return min(max(time.Duration(streams)*time.Second/100, reg.opts.Keepalive), 4*reg.opts.Keepalive)
}

// isSilentLocked reports whether the agent has not reported for too long. It must be called
// with mu held.
func (reg *registry) isSilentLocked(s *stream, now time.Time) bool {
	return now.Sub(s.lastReport) >= reg.maxSilenceLocked(s)
}

// maxSilenceLocked returns how long the agent may send no report. It must be called with mu
// held.
func (reg *registry) maxSilenceLocked(s *stream) time.Duration {
	return 3 * max(reg.opts.Heartbeat, min(s.heartbeat, time.Hour))
}
