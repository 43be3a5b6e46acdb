package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
)

func TestIdentifiersInThePath(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, id := range []string{
		"plain", "with space", "what?", "a#b", "100%", "a%2Fb", "über", "日本語", ".", "..", "...", "a+b", "a&b=c;d", "~", `"quoted"`, `back\slash`, "%", "%zz", "+", " ",
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			body, err := json.Marshal(map[string]any{"identifier": id})
			if err != nil {
				t.Fatal(err)
			}
			task := s.create(t, "/ping", string(body))
			paths := []string{"/ping/" + url.PathEscape(id), "/ping/" + url.PathEscape(task.ID)}
			if strings.Trim(id, ".") == "" {
				paths = append(paths, "/ping/"+strings.ReplaceAll(id, ".", "%2e"))
			}
			for _, path := range paths {
				got := decode[state](t, s.do(t, http.MethodGet, path, ""), http.StatusOK)
				if got.Task.ID != task.ID || got.Task.Identifier != id {
					t.Errorf("GET %s gave %q", path, got.Task.Identifier)
				}
			}
			cancelled := decode[tasker.Task](t, s.do(t, http.MethodPost, paths[0]+"/cancel", ""), http.StatusAccepted)
			if cancelled.ID != task.ID || cancelled.CancelRequestedAt == nil {
				t.Errorf("POST %s/cancel gave %+v", paths[0], cancelled)
			}
		})
	}
}

func TestListPagesThroughAll(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var want []string
	for i := range 7 {
		task := s.create(t, "/ping", fmt.Sprintf(`{"identifier":"%d","endpoints":["a"]}`, i))
		want = append([]string{task.Identifier}, want...)
	}
	s.create(t, "/command", `{"identifier":"other","payload":{"argv":["a"]}}`)
	type list struct {
		Tasks []tasker.Task `json:"tasks"`
		Next  *string       `json:"next"`
	}
	var got []string
	for next, pages := "", 1; ; pages++ {
		page := decode[list](t, s.do(t, http.MethodGet, "/ping?limit=3&status=pending&cursor="+url.QueryEscape(next), ""), http.StatusOK)
		for _, task := range page.Tasks {
			got = append(got, task.Identifier)
		}
		if page.Next == nil || *page.Next == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		next = *page.Next
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("newest first (-want +got):\n%s", diff)
	}
	if a := s.do(t, http.MethodGet, "/ping?status=failed", ""); string(a.body) != `{"tasks":[],"next":""}`+"\n" {
		t.Errorf("an empty list is %s", a.body)
	}
}

func TestCancelAndRetry(t *testing.T) {
	t.Parallel()
	s := serve(t)
	apply(t, s.store, hello("a"), hello("b"))
	task := s.create(t, "/ping", `{"identifier":"1","endpoints":["a","b"]}`)
	s.do(t, http.MethodPost, "/ping/1/retry", "").problem(t, http.StatusConflict)

	apply(t, s.store, update(task, "a", 1, tasker.Succeeded), update(task, "b", 1, tasker.Running))
	for range 2 { // a second cancel changes nothing
		got := decode[tasker.Task](t, s.do(t, http.MethodPost, "/ping/1/cancel", ""), http.StatusAccepted)
		if got.CancelRequestedBy != "local" || got.FinishedAt != nil {
			t.Errorf("cancelled: %+v", got)
		}
	}
	apply(t, s.store, update(task, "b", 2, tasker.Cancelled))
	if got := decode[state](t, s.do(t, http.MethodGet, "/ping/1", ""), http.StatusOK); got.Task.Status != tasker.TaskCancelled {
		t.Errorf("status %s", got.Task.Status)
	}
	decode[tasker.Task](t, s.do(t, http.MethodPost, "/ping/1/cancel", "{}"), http.StatusAccepted)

	got := decode[tasker.Task](t, s.do(t, http.MethodPost, "/ping/1/retry", ""), http.StatusAccepted)
	if got.FinishedAt != nil || got.Counts[tasker.Pending] != 1 || got.Counts[tasker.Succeeded] != 1 {
		t.Errorf("retried: %+v", got)
	}
	after := decode[state](t, s.do(t, http.MethodGet, "/ping/1", ""), http.StatusOK)
	if after.Responses[0].Attempt != 1 || after.Responses[1].Attempt != 2 {
		t.Errorf("attempts: %+v", after.Responses)
	}

	done := s.create(t, "/ping", `{"identifier":"2","endpoints":["a"]}`)
	apply(t, s.store, update(done, "a", 1, tasker.Succeeded))
	if p := s.do(t, http.MethodPost, "/ping/2/retry", "").problem(t, http.StatusConflict); !strings.Contains(p.Detail, "nothing to retry") {
		t.Errorf("retry of what succeeded: %+v", p)
	}
}

func TestOutput(t *testing.T) {
	t.Parallel()
	s := serve(t)
	apply(t, s.store, hello("a"))
	task := s.create(t, "/ping", `{"identifier":"1","endpoints":["a","b"]}`)
	report := update(task, "a", 1, tasker.Succeeded)
	report.Update.Output = []tasker.Chunk{{Offset: 0, Data: []byte("head, ")}, {Offset: 6, Data: []byte("on")}, {Offset: 1000, Data: []byte("tail\n")}}
	report.Update.OutputBytes, report.Update.OutputTruncated = 1005, true
	apply(t, s.store, report)

	a := s.do(t, http.MethodGet, "/ping/1/responses/a/output", "")
	if want := "head, on\n[... 992 bytes left out ...]\ntail\n"; a.status != http.StatusOK || string(a.body) != want {
		t.Errorf("got %d %q, want %q", a.status, a.body, want)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff",
		"Tasker-Output-Bytes": "1005", "Tasker-Output-Truncated": "true", "Tasker-Attempt": "1",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	pieces := decode[api.Output](t, s.do(t, http.MethodGet, "/ping/1/responses/a/output", "", "Accept", "application/json"), http.StatusOK)
	var kept strings.Builder
	for _, c := range pieces.Chunks {
		kept.Write(c.Data)
	}
	if kept.String() != "head, ontail\n" || pieces.Bytes != 1005 || !pieces.Truncated || pieces.Endpoint != "a" {
		t.Errorf("pieces: %+v", pieces)
	}
	if a := s.do(t, http.MethodGet, "/ping/1/responses/b/output", ""); a.status != http.StatusOK || len(a.body) != 0 || a.header.Get("Tasker-Output-Bytes") != "0" {
		t.Errorf("output of nothing: %d %q", a.status, a.body)
	}
	s.do(t, http.MethodGet, "/ping/1/responses/c/output", "").problem(t, http.StatusNotFound)
	s.do(t, http.MethodGet, "/ping/1/responses/C/output", "").problem(t, http.StatusNotFound)
}

func TestEndpointsAndDiscovery(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if a := s.do(t, http.MethodGet, "/sd/prometheus", ""); string(a.body) != "[]\n" {
		t.Errorf("no targets are %s", a.body)
	}
	quiet := hello("d")
	quiet.Hello.Metrics, quiet.Hello.Labels, quiet.Hello.Handlers = "", nil, nil
	apply(t, s.store, hello("c"), hello("a"), hello("b"), quiet)

	first := decode[api.EndpointList](t, s.do(t, http.MethodGet, "/endpoints?limit=2", ""), http.StatusOK)
	second := decode[api.EndpointList](t, s.do(t, http.MethodGet, "/endpoints?limit=2&cursor="+first.Next, ""), http.StatusOK)
	var names []string
	for _, e := range append(first.Endpoints, second.Endpoints...) {
		names = append(names, e.Name)
	}
	if !cmp.Equal(names, []string{"a", "b", "c", "d"}) || second.Next != "" {
		t.Errorf("pages: %v, next %q", names, second.Next)
	}
	one := s.do(t, http.MethodGet, "/endpoints/d", "")
	decode[tasker.Endpoint](t, one, http.StatusOK)
	if strings.Contains(string(one.body), "null") {
		t.Errorf("null for an empty list: %s", one.body)
	}
	if e := decode[tasker.Endpoint](t, s.do(t, http.MethodGet, "/endpoints/a", ""), http.StatusOK); !e.Connected || !cmp.Equal(e.Types, []string{"command", "ping"}) {
		t.Errorf("endpoint a: %+v", e)
	}

	targets := decode[[]api.TargetGroup](t, s.do(t, http.MethodGet, "/sd/prometheus", ""), http.StatusOK)
	want := api.TargetGroup{Targets: []string{"a.example:9464"}, Labels: map[string]string{
		"endpoint": "a", "__meta_tasker_endpoint": "a", "__meta_tasker_version": "1.2.3", "__meta_tasker_connected": "true",
		"__meta_tasker_types": ",command,ping,", "__meta_tasker_label_role": "loadbalancer", "__meta_tasker_label_site_of_rack": "b-7",
	}}
	if len(targets) != 3 {
		t.Fatalf("%d targets", len(targets))
	}
	if diff := cmp.Diff(want, targets[0]); diff != "" {
		t.Errorf("target of a (-want +got):\n%s", diff)
	}
}

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
		nobody, agent, admin int
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
		for authorization, want := range map[string]int{"": tt.nobody, agent: tt.agent, admin: tt.admin} {
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
	if a := s.do(t, http.MethodGet, "/", "", "Accept", "text/html"); a.status != http.StatusFound || a.header.Get("Location") != "/docs" {
		t.Errorf("a browser without a token, at the root: %d %s", a.status, a.header.Get("Location"))
	}
	if a := s.do(t, http.MethodGet, "/agent/orders", "", "Authorization", agent); string(a.body) != "agent /agent/orders" {
		t.Errorf("the agents' handler saw %s", a.body)
	}
	a := s.do(t, http.MethodPost, "/ping", `{"identifier":"1"}`, "Authorization", admin)
	decode[tasker.Task](t, a, http.StatusCreated)
	a = s.do(t, http.MethodPost, "/ping/1/cancel", "", "Authorization", admin)
	if task := decode[tasker.Task](t, a, http.StatusAccepted); task.CancelRequestedBy != "admin" {
		t.Errorf("cancelled by %q", task.CancelRequestedBy)
	}
	if log := s.log.String(); strings.Contains(log, tokens.Admin) || strings.Contains(log, tokens.Agent) {
		t.Error("the log holds a token")
	}
}

func TestPagesOfOtherSites(t *testing.T) {
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
		t.Errorf("under a foreign name: %d", resp.StatusCode)
	}
	got := decode[state](t, s.do(t, http.MethodGet, "/ping/1", ""), http.StatusOK)
	if got.Task.CancelRequestedAt != nil {
		t.Error("a page of another site cancelled a task")
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if got := decode[api.Health](t, s.do(t, http.MethodGet, "/healthz", ""), http.StatusOK); got.Version != "1.2.3" {
		t.Errorf("health: %+v", got)
	}
}
