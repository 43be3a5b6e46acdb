package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/reportrules"
)

// endpointResource lists endpoints, also as scrape targets.
type endpointResource struct{ resource }

type endpointsInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"The maximum number of endpoints."`
	Cursor string `query:"cursor" maxLength:"128" doc:"The value of next from the previous page."`
}

// EndpointList is one page of endpoints, sorted by name.
type EndpointList struct {
	Endpoints []tasker.Endpoint `json:"endpoints" doc:"The endpoints, by name."`
	Next      string            `json:"next" doc:"The cursor of the next page; empty on the last page."`
}

type endpointInput struct {
	Name string `path:"name" doc:"The name of the endpoint." example:"loadbalancer-1"`
}

// TargetGroup is a scrape target of Prometheus' HTTP service discovery.
type TargetGroup struct {
	Targets []string          `json:"targets" doc:"The host:port of the agent's metrics."`
	Labels  map[string]string `json:"labels" doc:"The labels of the target."`
}

func (r endpointResource) register() {
	huma.Register(r.huma, operation(endpointTag, "list-endpoints", "/endpoints", "List endpoints",
		"Every endpoint that has ever reported, by name. `next` is the `cursor` of the next page; it is empty on the last page."), r.list)
	op := operation(endpointTag, "get-endpoint", "/endpoints/{name}", "Get an endpoint", "The last report of the endpoint.")
	op.Errors = append(op.Errors, http.StatusNotFound)
	huma.Register(r.huma, op, r.get)
	huma.Register(r.huma, operation(endpointTag, "discover", "/sd/prometheus", "Discover scrape targets",
		"HTTP service discovery of Prometheus: the metrics address of every agent, with the label `endpoint` and, for relabelling, "+
			"`__meta_tasker_connected`, `__meta_tasker_version`, `__meta_tasker_types` and one `__meta_tasker_label_NAME` for each label of the endpoint."), r.targets)
}

func (r endpointResource) list(ctx context.Context, in *endpointsInput) (*bodyOutput[EndpointList], error) {
	list, err := r.store.Endpoints(ctx, in.Limit+1, in.Cursor)
	if err != nil {
		return nil, r.problem(ctx, err, "")
	}
	page := EndpointList{Endpoints: make([]tasker.Endpoint, 0, len(list))}
	for i, e := range list {
		if i == in.Limit {
			page.Next = list[i-1].Name
			break
		}
		page.Endpoints = append(page.Endpoints, withoutNulls(e))
	}
	return &bodyOutput[EndpointList]{page}, nil
}

func (r endpointResource) get(ctx context.Context, in *endpointInput) (*bodyOutput[tasker.Endpoint], error) {
	notFound := "no agent has ever reported under the name " + quote(in.Name)
	if tasker.ValidateEndpoint(in.Name) != nil {
		return nil, newProblem(http.StatusNotFound, notFound)
	}
	recordOf(ctx).endpoint = in.Name
	e, err := r.store.Endpoint(ctx, in.Name)
	if err != nil {
		return nil, r.problem(ctx, err, notFound)
	}
	return &bodyOutput[tasker.Endpoint]{withoutNulls(e)}, nil
}

// targets returns the scrape targets of all agents. Prometheus reports the disconnected
// ones as down.
func (r endpointResource) targets(ctx context.Context, _ *struct{}) (*bodyOutput[[]TargetGroup], error) {
	const pageSize = 1000
	groups := []TargetGroup{}
	for after, more := "", true; more; {
		list, err := r.store.Endpoints(ctx, pageSize, after)
		if err != nil {
			return nil, r.problem(ctx, err, "")
		}
		for _, e := range list {
			after = e.Name
			if reportrules.IsMetricsAddress(e.Metrics) { // an older control plane stored any text
				groups = append(groups, targetGroup(e))
			}
		}
		more = len(list) == pageSize
	}
	return &bodyOutput[[]TargetGroup]{groups}, nil
}

func targetGroup(e tasker.Endpoint) TargetGroup {
	labels := map[string]string{
		"endpoint":                e.Name,
		"__meta_tasker_endpoint":  e.Name,
		"__meta_tasker_version":   e.Version,
		"__meta_tasker_connected": strconv.FormatBool(e.Connected),
		// Separators at both ends let a pattern match ",ping,".
		"__meta_tasker_types": "," + strings.Join(e.Types, ",") + ",",
	}
	for name, value := range e.Labels {
		labels["__meta_tasker_label_"+labelName(name)] = value
	}
	return TargetGroup{Targets: []string{e.Metrics}, Labels: labels}
}

// labelName replaces characters that Prometheus does not allow in a label name.
func labelName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, s)
}

// withoutNulls replaces nil lists and maps by empty ones, which JSON writes as [] and {}.
func withoutNulls(e tasker.Endpoint) tasker.Endpoint {
	for _, list := range []*[]string{&e.Types, &e.Handlers, &e.Scripts} {
		if *list == nil {
			*list = []string{}
		}
	}
	if e.Labels == nil {
		e.Labels = map[string]string{}
	}
	return e
}
