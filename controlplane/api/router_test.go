package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	tokens := auth.AccessTokens{Admin: "the-admins-own-token", Agent: "the-agents-own-token"}
	s := serve(t, func(o *api.Options) {
		var err error
		if o.Authorizer, err = auth.NewAuthorizer(auth.AuthorizerOptions{Tokens: tokens}); err != nil {
			t.Fatal(err)
		}
		o.Agents = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, auth.CallerFrom(r.Context()).Name, " ", r.URL.Path)
		})
	})
	admin, agent := "Bearer "+tokens.Admin, "Bearer "+tokens.Agent
	tests := []struct {
		path                 string
		anyone, agent, admin int
	}{
		{"/healthz", 200, 200, 200},
		{"/readyz", 200, 200, 200},
		{"/docs", 200, 200, 200},
		{"/docs/swagger-ui.css", 200, 200, 200},
		{"/openapi.json", 401, 403, 200},
		{"/metrics", 401, 403, 200},
		{"/", 401, 403, 200},
		{"/ping", 401, 403, 200},
		{"/endpoints", 401, 403, 200},
		{"/sd/prometheus", 401, 403, 200},
		{"/reboot", 401, 403, 404},
		{"/agent/orders", 401, 200, 200},
		{"/agent/../ping", 401, 200, 200},
		{"/agent%2F..%2Fping", 401, 403, 404},
		{"/docs/..%2f..%2fping", 404, 404, 404},
		{"//agent/ping", 401, 403, 404},
	}
	for _, tt := range tests {
		for authorization, want := range map[string]int{"": tt.anyone, agent: tt.agent, admin: tt.admin} {
			a := s.do(t, http.MethodGet, tt.path, "", "Authorization", authorization)
			if a.status != want {
				t.Errorf("GET %s with %q: %d, want %d", tt.path, authorization, a.status, want)
			}
			if want == http.StatusUnauthorized {
				a.problem(t, want)
				if a.header.Get("WWW-Authenticate") != `Bearer realm="tasker"` {
					t.Errorf("GET %s: WWW-Authenticate is %q", tt.path, a.header.Get("WWW-Authenticate"))
				}
			}
		}
	}
	if a := s.do(t, http.MethodGet, "/", "", "Accept", "text/html"); a.status != http.StatusFound || a.header.Get("Location") != "docs" {
		t.Errorf("the root in a browser without a token: %d %s", a.status, a.header.Get("Location"))
	}
	if a := s.do(t, http.MethodGet, "/agent/orders", "", "Authorization", agent); string(a.body) != "agent /agent/orders" {
		t.Errorf("the agents' handler received %s", a.body)
	}
	a := s.do(t, http.MethodPost, "/ping", `{"identifier":"1"}`, "Authorization", admin)
	decode[tasker.Task](t, a, http.StatusCreated)
	a = s.do(t, http.MethodPost, "/ping/1/cancel", "", "Authorization", admin)
	if task := decode[tasker.Task](t, a, http.StatusAccepted); task.CancelRequestedBy != "admin" {
		t.Errorf("cancelled by %q", task.CancelRequestedBy)
	}
	if log := s.log.String(); strings.Contains(log, tokens.Admin) || strings.Contains(log, tokens.Agent) {
		t.Error("the log has a token")
	}
}

func TestCrossSiteRequests(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.create(t, "/ping", `{"identifier":"1"}`)
	a := s.do(t, http.MethodPost, "/ping/1/cancel", "", "Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site")
	a.problem(t, http.StatusForbidden)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/ping/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.example"
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("with a foreign host: %d", resp.StatusCode)
	}
	got := decode[api.TaskAndResponses](t, s.do(t, http.MethodGet, "/ping/1", ""), http.StatusOK)
	if got.Task.CancelRequestedAt != nil {
		t.Error("a page of another site has cancelled a task")
	}
}
