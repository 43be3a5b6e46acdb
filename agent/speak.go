package agent

import (
	"context"
	"errors"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// run speaks until ctx is done.
func (s *speaker) run(ctx context.Context) {
	timer := time.NewTimer(never)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(s.step(ctx))
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-s.probe:
		case <-timer.C:
		}
	}
}

// step says what is due and returns the time until something else is.
func (s *speaker) step(ctx context.Context) time.Duration {
	now := time.Now()
	s.mu.Lock()
	hello := s.session != "" && !s.welcomed && !now.Before(s.helloAt)
	beat := s.welcomed && !now.Before(s.beatAt)
	s.mu.Unlock()
	if hello {
		s.hello(ctx)
	}
	if beat {
		s.beat(ctx)
	}
	works := s.due(time.Now())
	if len(works) > 0 {
		s.report(ctx, works)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	next := now.Add(never)
	at := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	switch {
	case s.session == "":
	case !s.welcomed:
		at(s.helloAt)
	default:
		at(s.beatAt)
	}
	if s.greeted && len(s.urgent) > 0 {
		at(s.newsAt)
	}
	if s.greeted && len(s.soon) > 0 {
		at(later(s.soonAt, s.newsAt))
	}
	if s.greeted && len(s.begun) > 0 {
		at(later(s.begunAt, s.newsAt))
	}
	return max(0, time.Until(next))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// hello introduces the agent; it is repeated until it is answered.
func (s *speaker) hello(ctx context.Context) {
	s.mu.Lock()
	session := s.session
	tries := s.tries
	s.tries++
	s.helloAt = time.Now().Add(helloEvery(tries))
	s.mu.Unlock()
	err := s.send(ctx, tasker.Report{Hello: &tasker.Hello{
		Presence: s.a.presence(), Session: session, Unfinished: s.a.unfinished(),
	}})
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.greeted = s.greeted || s.session == session
	case s.session == session:
		s.helloAt = time.Now().Add(resend(tries))
		s.a.log.Warn("hello not sent; it will be repeated", "error", err)
	}
}

func (s *speaker) beat(ctx context.Context) {
	s.mu.Lock()
	s.beatAt = time.Now().Add(early(s.heartbeat))
	s.mu.Unlock()
	err := s.send(ctx, tasker.Report{Heartbeat: &tasker.Heartbeat{Presence: s.a.presence()}})
	s.a.metrics.heartbeat(err)
	if err != nil {
		s.a.log.Debug("heartbeat not sent", "error", err)
	}
	s.a.measure()
}

// flush sends what is left to report, and a goodbye, before ctx is done.
func (s *speaker) flush(ctx context.Context) {
	for {
		s.mu.Lock()
		s.soonAt, s.begunAt, s.newsAt = time.Time{}, time.Time{}, time.Time{}
		greeted := s.greeted
		s.mu.Unlock()
		works := s.due(time.Now())
		if !greeted || len(works) == 0 {
			break
		}
		s.report(ctx, works)
		s.mu.Lock()
		failures := s.failures
		s.mu.Unlock()
		if failures > 0 && (backoff.Policy{First: 200 * time.Millisecond, Cap: time.Second}).Sleep(ctx, failures) != nil {
			break
		}
	}
	s.mu.Lock()
	greeted, left := s.greeted, len(s.urgent)
	s.mu.Unlock()
	if left > 0 {
		s.a.log.Warn("reports are left in the journal, to be sent at the next start", "reports", left)
	}
	if !greeted {
		return
	}
	if err := s.send(ctx, tasker.Report{Goodbye: &tasker.Goodbye{}}); err != nil {
		s.a.log.Debug("goodbye not sent", "error", err)
	}
}

// send sends reports in the agent's name.
func (s *speaker) send(ctx context.Context, reports ...tasker.Report) error {
	ctx, done := context.WithTimeout(ctx, sendTimeout)
	defer done()
	for i := range reports {
		reports[i].Version = tasker.WireVersion
		reports[i].Endpoint, reports[i].Instance = s.a.opts.Endpoint, s.a.journal.Instance()
	}
	err := s.a.link.Send(ctx, reports...)
	switch {
	case err == nil:
		s.a.metrics.connected(true)
	case errors.Is(err, transport.ErrUnavailable), errors.Is(err, transport.ErrClosed):
		s.a.metrics.connected(false)
	}
	return err
}
