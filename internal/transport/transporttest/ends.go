package transporttest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// inbox keeps what a Receive handed over.
type inbox[M any] struct {
	// hold is asked before a batch is kept; its error is that of the handler.
	hold func(ctx context.Context, batch []M) error

	mu      sync.Mutex
	batches [][]M
}

func (i *inbox[M]) handle(ctx context.Context, batch []M) error {
	if i.hold != nil {
		if err := i.hold(ctx, batch); err != nil {
			return err
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.batches = append(i.batches, append([]M(nil), batch...))
	return nil
}

// all are the messages in the order in which they came.
func (i *inbox[M]) all() []M {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []M
	for _, b := range i.batches {
		all = append(all, b...)
	}
	return all
}

// empty is the number of empty batches: the sessions of a link.
func (i *inbox[M]) empty() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	for _, b := range i.batches {
		if len(b) == 0 {
			n++
		}
	}
	return n
}

// end is one end of a transport at work.
type end[Out, In any] struct {
	transport.Conn[Out, In]
	in inbox[In]
	// ended holds what Receive returned.
	ended chan error
}

// work begins to receive. The end is closed with the test, if not before.
func work[Out, In any](t testing.TB, conn transport.Conn[Out, In], hold func(context.Context, []In) error) *end[Out, In] {
	t.Helper()
	e := &end[Out, In]{Conn: conn, in: inbox[In]{hold: hold}, ended: make(chan error, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.ended <- conn.Receive(context.Background(), e.in.handle)
	}()
	t.Cleanup(func() {
		e.close(t)
		<-done
	})
	return e
}

func (e *end[Out, In]) close(t testing.TB) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Errorf("Close returned %v", err)
	}
}

// send sends until everything has passed: again what has not.
func (e *end[Out, In]) send(t testing.TB, msgs ...Out) {
	t.Helper()
	wait.For(t, "messages to pass", func() bool {
		err := e.Send(t.Context(), msgs...)
		msgs = unsent(msgs, err)
		return err == nil
	})
}

// meanwhile sends as send does, while the test goes on.
func meanwhile[Out, In any](t testing.TB, conn transport.Conn[Out, In], msgs ...Out) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	sending.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			err := conn.Send(ctx, msgs...)
			if err == nil || errors.Is(err, transport.ErrClosed) {
				return
			}
			msgs = unsent(msgs, err)
			<-tick.C
		}
	})
	t.Cleanup(func() {
		cancel()
		sending.Wait()
	})
}

// unsent are the messages that have not passed.
func unsent[M any](msgs []M, err error) []M {
	var partly *transport.SendError
	if !errors.As(err, &partly) {
		return msgs
	}
	var again []M
	for i, m := range msgs {
		if partly.Failed[i] != nil {
			again = append(again, m)
		}
	}
	return again
}

type (
	hub  = end[tasker.Order, tasker.Report]
	link = end[tasker.Report, tasker.Order]
)

// hub starts a control plane's end.
func (f Fabric) hub(t testing.TB) *hub {
	t.Helper()
	return f.holdingHub(t, nil)
}

func (f Fabric) holdingHub(t testing.TB, hold func(context.Context, []tasker.Report) error) *hub {
	t.Helper()
	return work(t, f.NewHub(t, taskTypes()), hold)
}

// agent is a link that says hello whenever it should.
type agent struct {
	*link
	name     string
	standing *standing
}

// agent starts an agent and does not wait for anything.
func (f Fabric) agent(t testing.TB, name string, handlers ...string) *agent {
	t.Helper()
	return f.holdingAgent(t, name, nil, handlers...)
}

func (f Fabric) holdingAgent(t testing.TB, name string, hold func(context.Context, []tasker.Order) error, handlers ...string) *agent {
	t.Helper()
	a := &agent{name: name, standing: &standing{}}
	conn := f.NewLink(t, name, "journal-of-"+name, a.standing.observe)
	a.link = work(t, conn, func(ctx context.Context, batch []tasker.Order) error {
		if len(batch) == 0 {
			return conn.Send(ctx, hello(name, handlers...))
		}
		if hold != nil {
			return hold(ctx, batch)
		}
		return nil
	})
	return a
}

// introduced starts an agent and waits until the hub has its hello.
func (f Fabric) introduced(t testing.TB, h *hub, name string, handlers ...string) *agent {
	t.Helper()
	before := hellos(h, name)
	a := f.agent(t, name, handlers...)
	wait.For(t, "the hello of "+name, func() bool { return hellos(h, name) > before })
	return a
}

// hellos counts the hellos of an endpoint.
func hellos(h *hub, name string) int {
	n := 0
	for _, r := range h.in.all() {
		if r.Endpoint == name && r.Hello != nil {
			n++
		}
	}
	return n
}

// standing keeps what an Observer was told.
type standing struct {
	mu   sync.Mutex
	told []error
}

func (s *standing) observe(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, err)
}

// well says whether the last word was that a session has begun.
func (s *standing) well() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.told) > 0 && s.told[len(s.told)-1] == nil
}

// unwell says whether the last word was a reason that contains text.
func (s *standing) unwell(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.told) == 0 {
		return false
	}
	last := s.told[len(s.told)-1]
	return last != nil && strings.Contains(last.Error(), text)
}
