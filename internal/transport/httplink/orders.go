package httplink

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// serveOrders is GET /agent/v1/orders.
func (h *Hub) serveOrders(w http.ResponseWriter, r *http.Request) {
	name, refusal := h.speaker(r)
	if refusal != nil {
		refusal.answer(w)
		return
	}
	if !h.begin() {
		stopping().answer(w)
		return
	}
	s := &stream{endpoint: name, instance: r.Header.Get(instanceHeader), heard: h.opts.Clock(), timeout: h.opts.WriteTimeout}
	out, refusal := h.admit(s, w, r)
	if refusal != nil {
		h.leave(s, refusal)
		h.work.Done()
		h.opts.Log.Warn("stream of orders refused", "endpoint", name, "error", refusal)
		refusal.answer(w)
		return
	}
	h.opts.Metrics.stream(1)
	h.opts.Log.Debug("stream of orders opened", "endpoint", name)
	serve := func() {
		defer h.work.Done()
		why := s.serve()
		h.leave(s, why)
		h.opts.Metrics.stream(-1)
		h.opts.Log.Debug("stream of orders ended", "endpoint", name, "reason", why)
	}
	if _, lent := out.(*lent); lent {
		serve()
		return
	}
	go serve()
}

// admit makes s the endpoint's stream and begins it.
func (h *Hub) admit(s *stream, w http.ResponseWriter, r *http.Request) (outlet, *problem) {
	if refusal := h.join(s); refusal != nil {
		return nil, refusal
	}
	if refusal := h.allow(r, s.endpoint); refusal != nil { // who may speak may have changed before it could be disconnected
		return nil, refusal
	}
	if why := s.ended(); why != nil {
		return nil, failure(http.StatusServiceUnavailable, "the stream ended before it began: %v", why)
	}
	w.Header().Set("Content-Type", streamType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // or nginx would collect the orders
	w.Header().Set(keepaliveHeader, strconv.FormatFloat(s.keepalive.Seconds(), 'f', -1, 64))
	out, first, err := open(w, r)
	if err != nil {
		return nil, failure(http.StatusInternalServerError, "%v", err)
	}
	s.begin(out, first)
	return out, nil
}

func stopping() *problem {
	return failure(http.StatusServiceUnavailable, "the control plane is stopping")
}

// join makes s the endpoint's stream. The same instance takes the place of its
// older stream; another one is refused while the holder of the name lives.
func (h *Hub) join(s *stream) *problem {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return stopping()
	}
	if old := h.streams[s.endpoint]; old != nil {
		now := h.opts.Clock()
		if old.instance != s.instance && !h.silent(old, now) {
			return failure(http.StatusConflict,
				"endpoint name %q is in use by another agent, heard of %s ago; give each server a name of its own, or stop the other agent (a dead one loses the name after %s of silence)",
				s.endpoint, now.Sub(old.heard).Round(time.Second), h.silence(old))
		}
		h.opts.Log.Info("stream of orders replaced; if this goes on, two agents use copies of one data directory", "endpoint", s.endpoint)
		old.end(errReplaced)
	}
	h.streams[s.endpoint] = s
	s.keepalive = h.keepalive(len(h.streams))
	return nil
}

// leave takes a stream away that has ended, or never began.
func (h *Hub) leave(s *stream, why error) {
	h.mu.Lock()
	if h.streams[s.endpoint] == s {
		delete(h.streams, s.endpoint)
	}
	h.mu.Unlock()
	s.end(why)
	settle(s.take(), transport.ErrOffline)
}

// speaker says for which endpoint a request speaks, or why it may not.
func (h *Hub) speaker(r *http.Request) (string, *problem) {
	name := r.Header.Get(endpointHeader)
	if err := tasker.ValidateEndpoint(name); err != nil {
		return "", failure(http.StatusBadRequest, "header %s: %v", endpointHeader, err)
	}
	if r.Header.Get(instanceHeader) == "" {
		return "", failure(http.StatusBadRequest, "header %s is missing", instanceHeader)
	}
	return name, h.allow(r, name)
}

// allow says why a request may not speak for the endpoint.
func (h *Hub) allow(r *http.Request, endpoint string) *problem {
	if h.opts.Authorize == nil {
		return nil
	}
	switch err := h.opts.Authorize(r, endpoint); {
	case err == nil:
		return nil
	case errors.Is(err, transport.ErrUnavailable):
		return failure(http.StatusServiceUnavailable, "who may speak for the endpoint cannot be told now; try again: %v", err)
	default:
		return failure(http.StatusForbidden, "%v", err)
	}
}
