package agent

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// speaker sends everything that the agent says. That it is one goroutine has a
// reason: a hello lists what is unfinished, and what is not among it counts as
// lost, so no report of a later assignment may overtake it.
type speaker struct {
	a    *Agent
	wake chan struct{}
	// probe is received from when run comes round.
	probe chan struct{}

	mu sync.Mutex
	// session is that of the last hello; empty before the first one is due.
	session string
	// greeted: the hello was handed over; welcomed: it was answered.
	greeted, welcomed bool
	heartbeat         time.Duration
	// When the next hello, heartbeat, reports and slow reports are due.
	helloAt, beatAt, newsAt, soonAt, begunAt time.Time
	// tries count the hellos of the session, failures the sends of reports that
	// failed in a row.
	tries, failures int
	// urgent is to be reported now, soon within a second: that is how seldom
	// progress and output of an assignment are reported. begun is to be reported in
	// a moment: what ends until then takes one report in all.
	urgent, soon, begun []*work
}

const (
	coalesce = time.Second
	moment   = 50 * time.Millisecond
	// sendTimeout bounds one attempt to send.
	sendTimeout      = 30 * time.Second
	defaultHeartbeat = 10 * time.Second
	leastHeartbeat   = 100 * time.Millisecond
	never            = 365 * 24 * time.Hour
)

// helloEvery is how often a hello is repeated until it is answered, resend how
// long reports wait that could not be sent.
func helloEvery(tries int) time.Duration {
	return backoff.Policy{First: 15 * time.Second, Cap: time.Minute}.Wait(tries)
}

func resend(tries int) time.Duration {
	return backoff.Policy{First: 500 * time.Millisecond, Cap: 30 * time.Second}.Wait(tries)
}

func newSpeaker(a *Agent) *speaker {
	return &speaker{a: a, wake: make(chan struct{}, 1), probe: make(chan struct{})}
}

func (s *speaker) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// begin begins a session, as the link has or as the time is in doubt: it starts with
// a hello.
func (s *speaker) begin() {
	s.mu.Lock()
	s.session = uuid.NewString()
	s.greeted, s.welcomed, s.tries = false, false, 0
	s.helloAt, s.newsAt = time.Now(), time.Time{}
	s.mu.Unlock()
	s.poke()
}

// welcome says whether a welcome is the first that answers the hello of this
// session. A further one changes the heartbeats only: the time that it tells may
// have been longer on its way.
func (s *speaker) welcome(w tasker.Welcome) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.Session != s.session || s.session == "" || w.Now.IsZero() {
		s.a.log.Debug("stale welcome ignored", "session", w.Session)
		return false
	}
	first := !s.welcomed
	if first {
		s.a.log.Info("welcomed by the control plane", "heartbeat", w.Heartbeat.D(), "now", w.Now)
	}
	s.welcomed = true
	s.heartbeat = w.Heartbeat.D()
	if s.heartbeat <= 0 {
		s.heartbeat = defaultHeartbeat
	}
	s.heartbeat = max(s.heartbeat, leastHeartbeat)
	// Anywhere in the interval, as agents come in crowds.
	s.beatAt = time.Now().Add(rand.N(s.heartbeat))
	s.a.metrics.welcomed(w.Now)
	s.poke()
	return first
}

// interval is that of the heartbeats, as it stands.
func (s *speaker) interval() tasker.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return tasker.Duration(s.heartbeat)
}

// early takes up to a tenth off, so that agents that began together do not beat
// together.
func early(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

// tell has the state of works reported now.
func (s *speaker) tell(works ...*work) {
	if len(works) == 0 {
		return
	}
	s.mu.Lock()
	for _, w := range works {
		s.hastenLocked(w)
	}
	s.mu.Unlock()
	s.poke()
}

func (s *speaker) hastenLocked(w *work) {
	w.begun = false
	w.told.Store(false)
	if !w.urgent {
		w.urgent = true
		s.urgent = append(s.urgent, w)
	}
}

// tellShortly has the beginning of works reported in a moment, unless something
// else is to be said of them before.
func (s *speaker) tellShortly(works ...*work) {
	if len(works) == 0 {
		return
	}
	s.mu.Lock()
	first := len(s.begun) == 0
	if first {
		s.begunAt = time.Now().Add(moment)
	}
	for _, w := range works {
		if !w.begun && !w.urgent {
			w.begun = true
			s.begun = append(s.begun, w)
		}
	}
	s.mu.Unlock()
	if first {
		s.poke()
	}
}

// tellSoon has a work's progress and output reported within a second. It may be
// called as often as one likes.
func (s *speaker) tellSoon(w *work) {
	if !w.told.CompareAndSwap(false, true) {
		return
	}
	s.mu.Lock()
	s.soon = append(s.soon, w)
	first := len(s.soon) == 1
	if first {
		s.soonAt = time.Now().Add(coalesce)
	}
	s.mu.Unlock()
	if first {
		s.poke()
	}
}

// alive says whether run comes round before ctx is done. One attempt to send may
// take up to sendTimeout.
func (s *speaker) alive(ctx context.Context) bool {
	select {
	case s.probe <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
