package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
)

// overHTTP serves the control plane with a hub until the test ends, and returns a link
// for the agent.
func (cp *controlPlane) overHTTP(t testing.TB, instance string, types []tasker.TaskType) transport.Link {
	t.Helper()
	hub := httplink.NewHub(httplink.HubOptions{Types: types, Log: slog.New(slog.DiscardHandler)})
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		cp.mu.Lock()
		down := cp.down
		cp.mu.Unlock()
		if down {
			http.Error(rw, "down", http.StatusServiceUnavailable)
			return
		}
		hub.Handler().ServeHTTP(rw, req)
	}))
	ctx, cancel := context.WithCancel(context.Background())
	var hubs sync.WaitGroup
	hello := make(chan struct{})
	helloReceived := sync.OnceFunc(func() { close(hello) })
	hubs.Go(func() {
		_ = hub.Receive(ctx, func(_ context.Context, reports []tasker.Report) error {
			cp.change(func() {
				for _, r := range reports {
					cp.apply(r)
				}
			})
			helloReceived() // the hello is the first report
			return nil
		})
	})
	hubs.Go(func() {
		// Before its hello the agent is offline. A hello in the middle of a batch would let
		// the later orders overtake the earlier ones, which are sent again.
		select {
		case <-hello:
		case <-ctx.Done():
			return
		}
		_ = cp.Receive(ctx, func(ctx context.Context, orders []tasker.Order) error {
			// After an error the orders are sent again, as a dispatcher does.
			if err := hub.Send(ctx, orders...); errors.Is(err, transport.ErrUnroutable) {
				t.Errorf("an order of the test: %v", err)
				return nil
			} else if err != nil {
				return err
			}
			return nil
		})
	})
	t.Cleanup(func() {
		cancel()
		_ = hub.Close()
		server.Close()
		hubs.Wait()
	})
	link, err := httplink.NewLink(httplink.LinkOptions{
		URI: server.URL, Endpoint: endpoint, Instance: instance, Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	return link
}
