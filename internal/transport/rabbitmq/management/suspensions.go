package management

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

const (
	// suspension is how long an agent that sends too many reports stays disconnected.
	suspension = time.Minute
	// liftTimeout limits the end of the suspensions when the control plane stops.
	liftTimeout = 5 * time.Second
)

// Suspensions disconnect agents that send too many reports, for a time. Their reports stay
// in their journals. All agents share a queue of reports, in which one agent could delay
// the others.
type Suspensions struct {
	accounts *Accounts
	log      *slog.Logger
	duration time.Duration
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu     sync.Mutex
	active map[string]bool // by endpoint
}

// NewSuspensions returns Suspensions that last a minute, or a positive duration. Close must
// be called.
func NewSuspensions(a *Accounts, log *slog.Logger, duration time.Duration) *Suspensions {
	if duration == 0 {
		duration = suspension
	}
	s := &Suspensions{accounts: a, log: log, duration: duration, active: map[string]bool{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Suspend begins to disconnect an agent, unless it is suspended. It does not block.
func (s *Suspensions) Suspend(endpoint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active[endpoint] || s.ctx.Err() != nil {
		return
	}
	s.active[endpoint] = true
	s.running.Go(func() {
		if err := s.suspend(endpoint); err != nil && s.ctx.Err() == nil {
			s.log.Error("agent that sends too many reports cannot be suspended", "endpoint", endpoint, "error", err)
			s.wait()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.active, endpoint)
	})
}

// suspend keeps an agent disconnected for the duration, or until Close.
func (s *Suspensions) suspend(endpoint string) error {
	u, err := s.accounts.find(s.ctx, endpoint)
	if err != nil || u == nil {
		return err
	}
	defer func() { // also after an error: the broker may have set the limit
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), liftTimeout)
		defer cancel()
		if err := s.accounts.setLimit(ctx, endpoint, connectionLimit, maxConnections); err != nil {
			s.log.Error("suspension of an agent cannot be ended; the next start of the control plane ends it", "endpoint", endpoint, "error", err)
		}
	}()
	if err := s.accounts.setLimit(s.ctx, endpoint, connectionLimit, 0); err != nil {
		return err
	}
	s.log.Warn("agent sends too many reports and is disconnected for a time; its reports stay in its journal", "endpoint", endpoint, "duration", s.duration.String())
	err = s.accounts.client.Call(s.ctx, http.MethodDelete, nil, nil, "connections", "username", endpoint)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("close the connections of RabbitMQ user %q: %w", endpoint, err)
	}
	s.wait()
	return nil
}

// wait waits for the duration of a suspension, or until Close.
func (s *Suspensions) wait() {
	select {
	case <-time.After(s.duration):
	case <-s.ctx.Done():
	}
}

// Close ends all suspensions.
func (s *Suspensions) Close() {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.running.Wait()
}
