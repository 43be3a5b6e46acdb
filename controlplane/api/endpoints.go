package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
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

// LabelRequest changes the labels of an endpoint.
type LabelRequest struct {
	Set    map[string]string `json:"set,omitempty" doc:"Labels to add or replace."`
	Remove []string          `json:"remove,omitempty" maxItems:"256" doc:"The names of labels to remove; names that the endpoint does not have are ignored."`
}

type labelInput struct {
	Name string `path:"name" doc:"The name of the endpoint." example:"loadbalancer-1"`
	Body LabelRequest
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
	op = operation(endpointTag, "label-endpoint", "/endpoints/{name}/labels", "Label an endpoint",
		"Adds, replaces and removes labels that selectors match. It does not change the labels in the configuration of the agent (`claimed_labels`). Repeating the call changes nothing.")
	op.Method, op.Middlewares = http.MethodPost, huma.Middlewares{r.requireJSON}
	op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	op.MaxBodyBytes = 64 << 10
	huma.Register(r.huma, op, r.label)
	huma.Register(r.huma, operation(endpointTag, "discover", "/sd/prometheus", "Discover scrape targets",
		"HTTP service discovery of Prometheus: the metrics address of every agent that has reported one, with the label `endpoint` and, for relabelling, "+
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

// label changes the bound labels of an endpoint.
func (r endpointResource) label(ctx context.Context, in *labelInput) (*bodyOutput[tasker.Endpoint], error) {
	recordOf(ctx).endpoint = truncate(in.Name)
	err := store.ErrNotFound
	if tasker.ValidateEndpoint(in.Name) == nil {
		err = r.store.LabelEndpoint(ctx, in.Name, in.Body.Set, in.Body.Remove)
	}
	switch {
	case errors.Is(err, store.ErrLabels):
		return nil, newFieldProblem(http.StatusUnprocessableEntity, "the labels are not valid", "body.set", strings.TrimPrefix(err.Error(), "label an endpoint: "))
	case err != nil:
		return nil, r.problem(ctx, err, "there is no endpoint of this name")
	}
	r.log.InfoContext(ctx, "endpoint labelled", "endpoint", in.Name, "set", in.Body.Set, "remove", in.Body.Remove, "by", auth.CallerFrom(ctx).Name)
	return r.get(ctx, &endpointInput{in.Name})
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
	for _, labels := range []*map[string]string{&e.Labels, &e.ClaimedLabels} {
		if *labels == nil {
			*labels = map[string]string{}
		}
	}
	return e
}
