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

// fakeHub records the orders that were sent, and returns err.
type fakeHub struct {
	transport.Hub
	sent []tasker.Order
	err  error
}

func (h *fakeHub) Send(_ context.Context, orders ...tasker.Order) error {
	h.sent = append(h.sent, orders...)
	return h.err
}

// fixedKey signs with one key.
type fixedKey struct{ ed25519.PrivateKey }

func (k fixedKey) Sign(o *tasker.Order) error { return o.Sign(k.PrivateKey) }

func TestSignEveryOrder(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	inner := &fakeHub{}
	orders := []tasker.Order{
		{Endpoint: "web-1", Type: "ping", Assignment: &tasker.Assignment{TaskID: "t", Payload: []byte(`{}`), Deadline: time.Now()}},
		{Endpoint: tasker.AllEndpoints, Type: "ping", Assignment: &tasker.Assignment{TaskID: "t", Payload: []byte(`{}`)}},
		{Endpoint: "web-1", Cancel: &tasker.Cancel{TaskID: "t"}},
		{Endpoint: "web-1", Welcome: &tasker.Welcome{Session: "s"}},
	}
	if err := (&signingHub{Hub: inner, keys: fixedKey{private}}).Send(t.Context(), orders...); err != nil || len(inner.sent) != len(orders) {
		t.Fatalf("%d sent, %v", len(inner.sent), err)
	}
	for i, o := range inner.sent {
		if err := o.Verify([]ed25519.PublicKey{public}); err != nil {
			t.Errorf("order %d: %v", i, err)
		}
		if orders[i].Signature != nil {
			t.Errorf("order %d of the caller was changed", i)
		}
	}
}

// An order that cannot be signed does not stop the others, and errors keep the indexes of
// their orders.
func TestSignFailureOfOneOrder(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	welcome := tasker.Order{Endpoint: "web-1", Welcome: &tasker.Welcome{}}
	inner := &fakeHub{err: &transport.SendError{Failed: map[int]error{1: transport.ErrOffline}, Of: 2}}
	hub := &signingHub{Hub: inner, keys: fixedKey{private}}
	err = hub.Send(t.Context(), welcome, tasker.Order{Endpoint: "web-2"}, welcome)
	failed, ok := errors.AsType[*transport.SendError](err)
	if !ok || len(inner.sent) != 2 || failed.Of != 3 || len(failed.Failed) != 2 ||
		!errors.Is(failed.Failed[1], transport.ErrRefused) || !errors.Is(failed.Failed[2], transport.ErrOffline) {
		t.Errorf("%d sent, %+v", len(inner.sent), err)
	}
	inner.err = transport.ErrClosed
	if err := hub.Send(t.Context(), welcome, tasker.Order{}); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Send = %v, want ErrClosed", err)
	}
}
