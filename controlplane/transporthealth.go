package controlplane

import (
	"context"
	"errors"
	"log/slog"
	"sync"
)

// TransportHealth is whether the transport is connected. It observes the transport, and
// readiness reads it.
type TransportHealth struct {
	log *slog.Logger

	mu          sync.Mutex
	err         error
	outage      bool
	onReconnect func()
}

// NewTransportHealth returns the health of a transport that has not connected yet.
func NewTransportHealth(log *slog.Logger) *TransportHealth {
	return &TransportHealth{log: log, err: errors.New("not connected yet"), onReconnect: func() {}}
}

// Observe is a transport.Observer.
func (h *TransportHealth) Observe(err error) {
	h.mu.Lock()
	outage, onReconnect := h.outage, h.onReconnect
	h.err, h.outage = err, err != nil
	h.mu.Unlock()
	switch {
	case err != nil && !outage:
		h.log.Warn("message queue is unavailable; trying again", "error", err)
	case err == nil:
		h.log.Info("message queue is connected")
		if outage {
			onReconnect()
		}
	}
}

// Check returns an error unless the transport is connected.
func (h *TransportHealth) Check(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// isConnected reports whether the transport is connected. A nil TransportHealth is that of
// a hub that needs no connection.
func (h *TransportHealth) isConnected() bool { return h == nil || h.Check(context.Background()) == nil }

// setOnReconnect sets the function that is called at the end of an outage.
func (h *TransportHealth) setOnReconnect(fn func()) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.onReconnect = fn
}
