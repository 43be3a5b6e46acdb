package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

// An agent that claims the label of others, and every handler, gets no task that is for
// them, and is no canary of their rollout.
func TestSelectorsIgnoreTheClaimsOfEnrolledAgents(t *testing.T) {
	t.Parallel()
	s := serveWithTokens(t)
	web, plain := s.token(t, `{"labels":{"role":"loadbalancer"}}`), s.token(t, `{}`)
	for name, token := range map[string]tasker.EnrolToken{"web-1": web, "a-hostile": plain} {
		if a := s.do(t, http.MethodPost, "/enrol", enrolBody(name), "Authorization", "Bearer "+token.Token); a.status != http.StatusCreated {
			t.Fatalf("enrol %s: %d %s", name, a.status, a.body)
		}
	}
	apply(t, s.store, hello("web-1"), hello("a-hostile")) // both claim role=loadbalancer
	create := func(identifier, rest string) tasker.Task {
		return decode[tasker.Task](t, s.do(t, http.MethodPost, "/ping", `{"identifier":"`+identifier+`",`+rest+`}`, admin...), http.StatusCreated)
	}
	for i, rest := range []string{`"labels":"role=loadbalancer"`, `"labels":"role"`, `"labels":"role=loadbalancer","rollout":{"canary":1,"order":"name"}`} {
		if task := create(fmt.Sprint(i), rest); !slices.Equal(task.Endpoints, []string{"web-1"}) {
			t.Errorf("%s: the task is for %v, want web-1", rest, task.Endpoints)
		}
	}
	if task := create("without", `"labels":"!role"`); !slices.Equal(task.Endpoints, []string{"a-hostile"}) {
		t.Errorf("!role: the task is for %v, want a-hostile", task.Endpoints)
	}
	plan := decode[tasker.WavePlan](t, s.do(t, http.MethodPost, "/ping/plan", `{"identifier":"p","labels":"role=loadbalancer"}`, admin...), http.StatusOK)
	if !slices.EqualFunc(plan.Waves, [][]string{{"web-1"}}, slices.Equal) {
		t.Errorf("the plan has the waves %v", plan.Waves)
	}
	for _, g := range decode[[]api.TargetGroup](t, s.do(t, http.MethodGet, "/sd/prometheus", "", admin...), http.StatusOK) {
		if _, labelled := g.Labels["__meta_tasker_label_role"]; labelled != (g.Labels["endpoint"] == "web-1") {
			t.Errorf("scrape target %v", g)
		}
	}
}

// A task type with labels has no broadcasts, which every agent gets that claims the handler.
func TestLabelsOfATaskTypeSelectWhereTheRequestDoesNot(t *testing.T) {
	t.Parallel()
	selector, err := tasker.ParseSelector("role=loadbalancer")
	if err != nil {
		t.Fatal(err)
	}
	labels := "role=loadbalancer"
	s := serveWithTokens(t, func(o *api.Options) {
		for i := range o.Types {
			o.Types[i].Labels, o.Types[i].Selector = labels, selector
		}
	})
	web, plain := s.token(t, `{"labels":{"role":"loadbalancer"}}`), s.token(t, `{"max_uses":2}`)
	for name, token := range map[string]tasker.EnrolToken{"web-1": web, "a-hostile": plain, "other": plain} {
		if a := s.do(t, http.MethodPost, "/enrol", enrolBody(name), "Authorization", "Bearer "+token.Token); a.status != http.StatusCreated {
			t.Fatalf("enrol %s: %d %s", name, a.status, a.body)
		}
	}
	apply(t, s.store, hello("web-1"), hello("a-hostile"), hello("other"))
	for i, tt := range []struct {
		rest, labels string
		want         []string
	}{
		{``, labels, []string{"web-1"}},
		{`,"rollout":{"canary":1,"order":"name"}`, labels, []string{"web-1"}},
		{`,"endpoints":["other"]`, "", []string{"other"}},
		{`,"labels":"!role"`, "!role", []string{"a-hostile", "other"}},
	} {
		body := fmt.Sprintf(`{"identifier":"%d"%s}`, i, tt.rest)
		task := decode[tasker.Task](t, s.do(t, http.MethodPost, "/ping", body, admin...), http.StatusCreated)
		if !slices.Equal(task.Endpoints, tt.want) || task.Labels != tt.labels {
			t.Errorf("%s: the task is for %v with the labels %q, want %v with %q", body, task.Endpoints, task.Labels, tt.want, tt.labels)
		}
		if again := decode[tasker.Task](t, s.do(t, http.MethodPost, "/ping", body, admin...), http.StatusOK); again.ID != task.ID {
			t.Errorf("%s: repeated, it is another task", body)
		}
	}
	plan := decode[tasker.WavePlan](t, s.do(t, http.MethodPost, "/ping/plan", `{"identifier":"p"}`, admin...), http.StatusOK)
	if plan.Broadcast || !slices.EqualFunc(plan.Waves, [][]string{{"web-1"}}, slices.Equal) {
		t.Errorf("the plan is %+v", plan)
	}
}

func TestLabelEndpoint(t *testing.T) {
	t.Parallel()
	s := serveWithTokens(t)
	apply(t, s.store, hello("a"))
	claimed := map[string]string{"role": "loadbalancer", "site.of/rack": "b-7"}
	for _, step := range []struct {
		name, endpoint, body string
		caller               []string
		status               int
		want                 map[string]string
	}{
		{"set", "a", `{"set":{"role":"db","zone":"a"}}`, admin, 200, map[string]string{"role": "db", "zone": "a", "site.of/rack": "b-7"}},
		{"remove", "a", `{"remove":["zone","unknown"]}`, admin, 200, map[string]string{"role": "db", "site.of/rack": "b-7"}},
		{"nothing", "a", `{}`, admin, 200, map[string]string{"role": "db", "site.of/rack": "b-7"}},
		{"invalid name", "a", `{"set":{"a b":"1"}}`, admin, 422, nil},
		{"invalid value", "a", `{"set":{"a":"\u0007"}}`, admin, 422, nil},
		{"unknown field", "a", `{"labels":{}}`, admin, 422, nil},
		{"unknown endpoint", "b", `{"set":{"a":"1"}}`, admin, 404, nil},
		{"invalid endpoint", "B", `{"set":{"a":"1"}}`, admin, 404, nil},
		{"agent's token", "a", `{"set":{"a":"1"}}`, []string{"Authorization", "Bearer the-agents-own-token"}, 403, nil},
		{"no token", "a", `{"set":{"a":"1"}}`, nil, 401, nil},
	} {
		a := s.do(t, http.MethodPost, "/endpoints/"+step.endpoint+"/labels", step.body, step.caller...)
		if a.status != step.status {
			t.Errorf("%s: %d %s, want %d", step.name, a.status, a.body, step.status)
		}
		if step.want == nil || a.status != step.status {
			continue
		}
		if e := decode[tasker.Endpoint](t, a, http.StatusOK); !cmp.Equal(e.Labels, step.want) || !cmp.Equal(e.ClaimedLabels, claimed) {
			t.Errorf("%s: labels %v, claimed %v; want %v", step.name, e.Labels, e.ClaimedLabels, step.want)
		}
	}
	if a := s.do(t, http.MethodPost, "/tokens", `{"labels":{"a b":"1"}}`, admin...); a.status != 422 {
		t.Errorf("a token with an invalid label: %d %s", a.status, a.body)
	}
}
