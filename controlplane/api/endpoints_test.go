package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

func TestEndpointsAndDiscovery(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if a := s.do(t, http.MethodGet, "/sd/prometheus", ""); string(a.body) != "[]\n" {
		t.Errorf("without agents: %s", a.body)
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
