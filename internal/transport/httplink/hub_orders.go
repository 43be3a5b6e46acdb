package httplink

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// serveOrders serves GET /agent/v1/orders.
func (h *Hub) serveOrders(w http.ResponseWriter, r *http.Request) {
	name, refusal := h.identify(r)
	if refusal != nil {
		refusal.respond(w)
		return
	}
	end, ok := h.operations.Start()
	if !ok {
		stopping().respond(w)
		return
	}
	s := &stream{endpoint: name, instance: r.Header.Get(instanceHeader), process: r.Header.Get(processHeader), lastReport: h.opts.Clock(), writeTimeout: h.opts.WriteTimeout}
	out, refusal := h.openStream(s, w, r)
	if refusal != nil {
		h.streams.remove(s, refusal)
		end()
		h.opts.Log.Warn("stream of orders refused", "endpoint", name, "error", refusal)
		refusal.respond(w)
		return
	}
	h.opts.Metrics.addStreams(1)
	h.opts.Log.Debug("stream of orders opened", "endpoint", name)
	run := func() {
		defer end()
		reason := s.run()
		if !h.streams.remove(s, reason) && !errors.Is(reason, transport.ErrClosed) {
			h.opts.Log.Warn("stream of orders ended without a hello; a proxy between agent and control plane may hold the stream back: turn off its buffering",
				"endpoint", name, "reason", reason)
		}
		h.opts.Metrics.addStreams(-1)
		h.opts.Log.Debug("stream of orders ended", "endpoint", name, "reason", reason)
	}
	if _, shared := out.(*responseOutput); shared {
		run() // the stream ends with the request
		return
	}
	go run()
}

// openStream registers s as the endpoint's stream and begins the response.
func (h *Hub) openStream(s *stream, w http.ResponseWriter, r *http.Request) (streamOutput, *problem) {
	if refusal := h.streams.add(s); refusal != nil {
		return nil, refusal
	}
	// The endpoint may have been revoked before Disconnect could find the stream.
	if refusal := h.authorize(r, s.endpoint); refusal != nil {
		return nil, refusal
	}
	if reason := s.endReason(); reason != nil {
		return nil, newProblem(http.StatusServiceUnavailable, "the stream ended before it began: %v", reason)
	}
	w.Header().Set("Content-Type", streamType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // otherwise nginx buffers the orders
	w.Header().Set(keepaliveHeader, strconv.FormatFloat(s.keepaliveInterval.Seconds(), 'f', -1, 64))
	out, head, err := beginResponse(w, r)
	if err != nil {
		return nil, newProblem(http.StatusInternalServerError, "%v", err)
	}
	s.start(out, head)
	return out, nil
}

func stopping() *problem {
	return newProblem(http.StatusServiceUnavailable, "the control plane is stopping")
}

// identify returns the endpoint whose agent sent the request, or a problem if the request
// may not use this name.
func (h *Hub) identify(r *http.Request) (string, *problem) {
	name := r.Header.Get(endpointHeader)
	if err := tasker.ValidateEndpoint(name); err != nil {
		return "", newProblem(http.StatusBadRequest, "header %s: %v", endpointHeader, err)
	}
	if r.Header.Get(instanceHeader) == "" {
		return "", newProblem(http.StatusBadRequest, "header %s is missing", instanceHeader)
	}
	return name, h.authorize(r, name)
}

// authorize returns a problem if the request may not use the endpoint's name.
func (h *Hub) authorize(r *http.Request, endpoint string) *problem {
	if h.opts.Authorize == nil {
		return nil
	}
	switch err := h.opts.Authorize(r, endpoint); {
	case err == nil:
		return nil
	case errors.Is(err, transport.ErrUnavailable):
		return newProblem(http.StatusServiceUnavailable, "the endpoint cannot be authorized now; try again: %v", err)
	default:
		return newProblem(http.StatusForbidden, "%v", err)
	}
}
