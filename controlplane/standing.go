package controlplane

import (
	"context"
	"errors"
	"log/slog"
	"sync"
)

// Standing is how the transport stands: its observer, and what readiness asks.
type Standing struct {
	log *slog.Logger

	mu       sync.Mutex
	err      error
	away     bool
	returned func()
}

// NewStanding makes the standing of a transport that has not connected yet.
func NewStanding(log *slog.Logger) *Standing {
	return &Standing{log: log, err: errors.New("not connected yet"), returned: func() {}}
}

// Observe is the transport.Observer.
func (s *Standing) Observe(err error) {
	s.mu.Lock()
	was, returned := s.away, s.returned
	s.err, s.away = err, err != nil
	s.mu.Unlock()
	switch {
	case err != nil && !was:
		s.log.Warn("message queue is away; trying again", "error", err)
	case err == nil:
		s.log.Info("message queue is connected")
		if was {
			returned()
		}
	}
}

// Check is nil while the transport is connected.
func (s *Standing) Check(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// onReturn sets what is told the end of an outage.
func (s *Standing) onReturn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.returned = f
}
