package auth_test

import (
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

func TestEndpointAuthorizer(t *testing.T) {
	t.Parallel()
	st := storetest.Open(t, storetest.SQLite(t))
	enroller := auth.NewEnroller(auth.EnrollerOptions{Store: st, Keys: func() [][]byte { return nil }, Log: slog.New(slog.DiscardHandler)})
	token, err := enroller.CreateToken(t.Context(), time.Hour, 2, nil, "admin")
	if err != nil {
		t.Fatal(err)
	}
	for letter, name := range map[string]string{"a": "enrolled", "b": "revoked"} {
		if _, _, err := enroller.Enrol(t.Context(), token.Token, tasker.EnrolRequest{Endpoint: name, Secret: strings.Repeat(letter, 43)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := enroller.Revoke(t.Context(), "revoked", "admin"); err != nil {
		t.Fatal(err)
	}
	asCaller := func(a *auth.EndpointAuthorizer, caller auth.Caller) func(string) error {
		return func(endpoint string) error {
			r := (&http.Request{}).WithContext(auth.WithCaller(t.Context(), caller))
			return a.AuthorizeRequest(r, endpoint)
		}
	}
	withTokens, withoutTokens, enrolledOnly := auth.NewEndpointAuthorizer(true, true), auth.NewEndpointAuthorizer(false, false), auth.NewEndpointAuthorizer(true, false)
	if err := asCaller(withTokens, auth.Caller{})("plain"); !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("before the database is open: %v", err)
	}
	withTokens.SetEnroller(enroller)
	withoutTokens.SetEnroller(enroller)
	enrolledOnly.SetEnroller(enroller)
	tests := map[string]struct {
		authorize                func(endpoint string) error
		plain, enrolled, revoked bool
	}{
		"own secret":         {asCaller(withTokens, auth.Caller{Role: auth.Agent, Endpoint: "enrolled"}), false, true, false},
		"shared token":       {asCaller(withTokens, auth.Caller{Role: auth.Agent}), true, false, false},
		"admin":              {asCaller(withTokens, auth.Caller{Role: auth.Admin}), true, false, false},
		"no tokens":          {asCaller(withoutTokens, auth.Caller{Role: auth.Admin}), true, true, false},
		"own user":           {func(e string) error { return withTokens.AuthorizeUser(t.Context(), e, e) }, true, true, false},
		"control plane user": {func(e string) error { return withTokens.AuthorizeUser(t.Context(), "tasker", e) }, true, false, false},

		"without an agents' token: own secret":         {asCaller(enrolledOnly, auth.Caller{Role: auth.Agent, Endpoint: "enrolled"}), false, true, false},
		"without an agents' token: shared token":       {asCaller(enrolledOnly, auth.Caller{Role: auth.Agent}), false, false, false},
		"without an agents' token: admin":              {asCaller(enrolledOnly, auth.Caller{Role: auth.Admin}), false, false, false},
		"without an agents' token: own user":           {func(e string) error { return enrolledOnly.AuthorizeUser(t.Context(), e, e) }, true, true, false},
		"without an agents' token: control plane user": {func(e string) error { return enrolledOnly.AuthorizeUser(t.Context(), "tasker", e) }, false, false, false},
		"no tokens: control plane user":                {func(e string) error { return withoutTokens.AuthorizeUser(t.Context(), "tasker", e) }, false, false, false},
	}
	for name, tt := range tests {
		for endpoint, want := range map[string]bool{"plain": tt.plain, "enrolled": tt.enrolled, "revoked": tt.revoked} {
			if err := tt.authorize(endpoint); (err == nil) != want || errors.Is(err, transport.ErrUnavailable) {
				t.Errorf("%s for %s: %v, want allowed: %t", name, endpoint, err, want)
			}
		}
	}
	for name, tt := range map[string]struct {
		authorizer *auth.EndpointAuthorizer
		refused    []string
	}{
		"with an agents' token":    {withTokens, []string{"enrolled", "revoked"}},
		"without an agents' token": {enrolledOnly, []string{"enrolled", "plain", "revoked"}},
		"no tokens":                {withoutTokens, []string{"enrolled", "plain", "revoked"}},
	} {
		refused, err := tt.authorizer.AuthorizeShared(t.Context(), []string{"plain", "enrolled", "revoked"})
		if got := slices.Sorted(maps.Keys(refused)); err != nil || !slices.Equal(got, tt.refused) {
			t.Errorf("%s: AuthorizeShared refuses %v, %v; want %v", name, got, err, tt.refused)
		}
	}
}
