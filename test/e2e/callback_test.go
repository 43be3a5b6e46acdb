package e2e

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// An undelivered callback survives a kill of the control plane. Its receiver verifies it
// with the printed secret.
func TestCallbackSurvivesKill(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		secret, err := exec.CommandContext(t.Context(), filepath.Join(programs, "tasker-controlplane"), "callback-secret", "--config", f.config).Output() //nolint:gosec // built above
		if err != nil {
			t.Fatalf("callback-secret: %v", err)
		}
		webhook, err := standardwebhooks.NewWebhook(strings.TrimSpace(string(secret)))
		if err != nil {
			t.Fatalf("%q: %v", secret, err)
		}
		f.startAgent("web-1")
		address := freeAddress(t)
		task := f.post("ping", `{"identifier":"x","endpoints":["web-1"],"callback":"http://`+address+`/"}`)
		delivery := func() tasker.Delivery {
			var a struct{ Callbacks []tasker.Delivery }
			f.call(http.MethodGet, "/ping/"+task.ID, "", &a)
			if len(a.Callbacks) == 0 {
				return tasker.Delivery{}
			}
			return a.Callbacks[0]
		}
		wait.For(t, "an attempt to fail", func() bool { return delivery().LastError != "" })
		f.cp.kill(t)

		var mu sync.Mutex
		var ids []string
		var invalid error
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, r.Header.Get("webhook-id"))
			invalid = errors.Join(invalid, err, webhook.Verify(body, r.Header))
		}))
		_ = s.Listener.Close()
		s.Listener = listener
		s.Start()
		t.Cleanup(s.Close)
		f.startControlPlane()
		wait.For(t, "the delivery", func() bool { return delivery().Status == tasker.DeliveryDelivered })
		mu.Lock()
		defer mu.Unlock()
		if d := delivery(); len(ids) != 1 || ids[0] != d.ID || invalid != nil {
			t.Errorf("received %v, %v; the delivery is %+v", ids, invalid, d)
		}
	})
}
