package api_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if got := decode[api.Health](t, s.do(t, http.MethodGet, "/healthz", ""), http.StatusOK); got.Version != "1.2.3" {
		t.Errorf("health: %+v", got)
	}
}

func TestReadinessListsParts(t *testing.T) {
	t.Parallel()
	s := serve(t, func(o *api.Options) {
		o.Checks["broker"] = func(context.Context) error { return errors.New("connection refused") }
		o.Checks["silent"] = func(ctx context.Context) error { <-ctx.Done(); return errors.New("no answer") }
	})
	a := s.do(t, http.MethodGet, "/readyz", "")
	if p := a.problem(t, http.StatusServiceUnavailable); !strings.Contains(p.Detail, "broker, silent") {
		t.Errorf("detail: %s", p.Detail)
	}
	if want := `"parts":{"broker":{"ready":false,"error":"connection refused"},"database":{"ready":true},"silent":{"ready":false,"error":"no answer"}}`; !strings.Contains(string(a.body), want) {
		t.Errorf("got %s, want %s in it", a.body, want)
	}
}
