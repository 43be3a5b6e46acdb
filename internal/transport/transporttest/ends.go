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

// inbox stores the batches that Receive delivers.
type inbox[M any] struct {
	// hold is called before a batch is stored; its error is the error of the handler.
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

// all returns the messages in the order of their delivery.
func (i *inbox[M]) all() []M {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []M
	for _, b := range i.batches {
		all = append(all, b...)
	}
	return all
}

// empty returns the number of empty batches: the sessions of a link.
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

// end is one end of a transport that receives.
type end[Out, In any] struct {
	transport.Conn[Out, In]
	in inbox[In]
	// ended receives the result of Receive.
	ended chan error
}

// startReceive begins to receive. The end is closed with the test, if not before.
func startReceive[Out, In any](t testing.TB, conn transport.Conn[Out, In], hold func(context.Context, []In) error) *end[Out, In] {
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

// send sends messages until all of them are accepted.
func (e *end[Out, In]) send(t testing.TB, msgs ...Out) {
	t.Helper()
	wait.For(t, "messages to be accepted", func() bool {
		err := e.Send(t.Context(), msgs...)
		msgs = unsent(msgs, err)
		return err == nil
	})
}

// sendInBackground sends as send does, while the test continues.
func sendInBackground[Out, In any](t testing.TB, conn transport.Conn[Out, In], msgs ...Out) {
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

// unsent returns the messages that were not accepted.
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

// hub starts the control plane's end.
func (f Fabric) hub(t testing.TB) *hub {
	t.Helper()
	return f.hubWithHandler(t, nil)
}

func (f Fabric) hubWithHandler(t testing.TB, hold func(context.Context, []tasker.Report) error) *hub {
	t.Helper()
	return startReceive(t, f.NewHub(t, taskTypes()), hold)
}

// agent is a link that sends a hello in each session.
type agent struct {
	*link
	name     string
	observed *observations
}

// agent starts an agent without waiting for its connection.
func (f Fabric) agent(t testing.TB, name string, handlers ...string) *agent {
	t.Helper()
	return f.agentWithHandler(t, name, nil, handlers...)
}

func (f Fabric) agentWithHandler(t testing.TB, name string, hold func(context.Context, []tasker.Order) error, handlers ...string) *agent {
	t.Helper()
	a := &agent{name: name, observed: &observations{}}
	conn := f.NewLink(t, name, "journal-of-"+name, a.observed.observe)
	a.link = startReceive(t, conn, func(ctx context.Context, batch []tasker.Order) error {
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

// connectedAgent starts an agent and waits until the hub has received its hello.
func (f Fabric) connectedAgent(t testing.TB, h *hub, name string, handlers ...string) *agent {
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

// observations stores the states that an Observer has received.
type observations struct {
	mu     sync.Mutex
	states []error
}

func (o *observations) observe(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.states = append(o.states, err)
}

// count returns the number of states.
func (o *observations) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.states)
}

// isConnected reports whether the last state is connected.
func (o *observations) isConnected() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.states) > 0 && o.states[len(o.states)-1] == nil
}

// isDisconnected reports whether the last state is an error that contains text.
func (o *observations) isDisconnected(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.states) == 0 {
		return false
	}
	last := o.states[len(o.states)-1]
	return last != nil && strings.Contains(last.Error(), text)
}
