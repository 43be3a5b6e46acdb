package controlplane

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api/access"
	"github.com/MatthiasWiesner/tasker/controlplane/enrol"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

func TestWhoSpeaksForAnEndpoint(t *testing.T) {
	t.Parallel()
	database := storetest.Open(t, storetest.SQLite(t))
	service, err := enrol.New(t.Context(), enrol.Options{Store: database, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	token, err := service.CreateToken(t.Context(), time.Hour, 2, "admin")
	if err != nil {
		t.Fatal(err)
	}
	for letter, name := range map[string]string{"a": "enrolled", "b": "revoked"} {
		if _, _, err := service.Enrol(t.Context(), token.Token, tasker.EnrolRequest{Endpoint: name, Secret: strings.Repeat(letter, 43)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := service.Revoke(t.Context(), "revoked", "admin"); err != nil {
		t.Fatal(err)
	}
	request := func(g *Gate, who access.Identity) func(string) error {
		return func(endpoint string) error {
			r := (&http.Request{}).WithContext(access.With(t.Context(), who))
			return g.Request(r, endpoint)
		}
	}
	auth, off := NewGate(true), NewGate(false)
	if err := request(auth, access.Identity{})("plain"); !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("before the database is open: %v", err)
	}
	auth.service.Store(service)
	off.service.Store(service)
	tests := map[string]struct {
		ask                      func(endpoint string) error
		plain, enrolled, revoked bool
	}{
		"own secret":         {request(auth, access.Identity{Role: access.Agent, Endpoint: "enrolled"}), false, true, false},
		"shared token":       {request(auth, access.Identity{Role: access.Agent}), true, false, false},
		"admin":              {request(auth, access.Identity{Role: access.Admin}), true, false, false},
		"no tokens":          {request(off, access.Identity{Role: access.Admin}), true, true, false},
		"own user":           {func(e string) error { return auth.User(t.Context(), e, e) }, true, true, false},
		"control plane user": {func(e string) error { return auth.User(t.Context(), "tasker", e) }, true, false, false},
	}
	for name, tt := range tests {
		for endpoint, want := range map[string]bool{"plain": tt.plain, "enrolled": tt.enrolled, "revoked": tt.revoked} {
			if err := tt.ask(endpoint); (err == nil) != want || errors.Is(err, transport.ErrUnavailable) {
				t.Errorf("%s for %s: %v, want allowed: %t", name, endpoint, err, want)
			}
		}
	}
}
