package httplink

import (
	"context"
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
		failure(http.StatusServiceUnavailable, "the control plane is stopping").answer(w)
		return
	}
	defer h.work.Done()
	// The server's time limits are for short requests; the stream sets its own.
	if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
		failure(http.StatusInternalServerError, "this server cannot keep a stream open: %v", err).answer(w)
		return
	}
	ctx, end := context.WithCancelCause(r.Context())
	defer end(nil)
	defer context.AfterFunc(h.ctx, func() { end(context.Cause(h.ctx)) })()
	s := &stream{
		endpoint: name, instance: r.Header.Get(instanceHeader), heard: h.opts.Clock(), end: end,
		timeout: h.opts.WriteTimeout, more: make(chan struct{}, 1),
	}
	if refusal := h.join(s); refusal != nil {
		h.opts.Log.Warn("stream of orders refused", "endpoint", name, "error", refusal)
		refusal.answer(w)
		return
	}
	defer h.leave(s)
	if refusal := h.allow(r, name); refusal != nil { // who may speak may have changed before it could be disconnected
		refusal.answer(w)
		return
	}
	h.opts.Metrics.stream(1)
	defer h.opts.Metrics.stream(-1)
	w.Header().Set("Content-Type", streamType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // or nginx would collect the orders
	w.Header().Set(keepaliveHeader, strconv.FormatFloat(h.opts.Keepalive.Seconds(), 'f', -1, 64))
	w.WriteHeader(http.StatusOK)
	s.keepAlive(time.Now()) // the agent sees at once that it is connected
	h.opts.Log.Debug("stream of orders opened", "endpoint", name)
	err := s.write(ctx, w)
	h.opts.Log.Debug("stream of orders ended", "endpoint", name, "reason", err)
}

// join makes s the endpoint's stream. The same instance takes the place of its
// older stream; another one is refused while the holder of the name lives.
func (h *Hub) join(s *stream) *problem {
	h.mu.Lock()
	defer h.mu.Unlock()
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
	return nil
}

func (h *Hub) leave(s *stream) {
	h.mu.Lock()
	if h.streams[s.endpoint] == s {
		delete(h.streams, s.endpoint)
	}
	h.mu.Unlock()
	s.finish()
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
	if h.opts.Speaker == nil {
		return nil
	}
	switch err := h.opts.Speaker(r, endpoint); {
	case err == nil:
		return nil
	case errors.Is(err, transport.ErrUnavailable):
		return failure(http.StatusServiceUnavailable, "who may speak for the endpoint cannot be told now; try again: %v", err)
	default:
		return failure(http.StatusForbidden, "%v", err)
	}
}
