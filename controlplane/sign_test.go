package controlplane

import (
	"context"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// wire remembers what was sent, and fails as it is told.
type wire struct {
	transport.Hub
	sent []tasker.Order
	err  error
}

func (w *wire) Send(_ context.Context, orders ...tasker.Order) error {
	w.sent = append(w.sent, orders...)
	return w.err
}

func TestEveryOrderIsSigned(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{}
	orders := []tasker.Order{
		{Endpoint: "web-1", Type: "ping", Assignment: &tasker.Assignment{TaskID: "t", Payload: []byte(`{}`), Deadline: time.Now()}},
		{Endpoint: tasker.AllEndpoints, Type: "ping", Assignment: &tasker.Assignment{TaskID: "t", Payload: []byte(`{}`)}},
		{Endpoint: "web-1", Cancel: &tasker.Cancel{TaskID: "t"}},
		{Endpoint: "web-1", Welcome: &tasker.Welcome{Session: "s"}},
	}
	if err := (&signing{Hub: w, key: private}).Send(t.Context(), orders...); err != nil || len(w.sent) != len(orders) {
		t.Fatalf("%d sent, %v", len(w.sent), err)
	}
	for i, o := range w.sent {
		if err := o.Verify([]ed25519.PublicKey{public}); err != nil {
			t.Errorf("order %d: %v", i, err)
		}
		if orders[i].Signature != nil {
			t.Errorf("order %d of the caller was changed", i)
		}
	}
}

// An order that cannot be signed holds up no other, and the reasons stay with
// those they belong to.
func TestAnOrderThatCannotBeSigned(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	welcome := tasker.Order{Endpoint: "web-1", Welcome: &tasker.Welcome{}}
	w := &wire{err: &transport.SendError{Failed: map[int]error{1: transport.ErrOffline}, Of: 2}}
	hub := &signing{Hub: w, key: private}
	err = hub.Send(t.Context(), welcome, tasker.Order{Endpoint: "web-2"}, welcome)
	failed, ok := errors.AsType[*transport.SendError](err)
	if !ok || len(w.sent) != 2 || failed.Of != 3 || len(failed.Failed) != 2 ||
		!errors.Is(failed.Failed[1], transport.ErrRefused) || !errors.Is(failed.Failed[2], transport.ErrOffline) {
		t.Errorf("%d sent, %+v", len(w.sent), err)
	}
	w.err = transport.ErrClosed
	if err := hub.Send(t.Context(), welcome, tasker.Order{}); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Send = %v, want ErrClosed", err)
	}
}
