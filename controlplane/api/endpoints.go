package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
)

// endpointPage is how many endpoints are read from the store at once for a
// list of all.
const endpointPage = 1000

type endpointsInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"At most so many endpoints."`
	Cursor string `query:"cursor" maxLength:"128" doc:"The next of the page before."`
}

// EndpointList is one page of endpoints, by name.
type EndpointList struct {
	Endpoints []tasker.Endpoint `json:"endpoints" doc:"The endpoints, by name."`
	Next      string            `json:"next" doc:"The cursor of the next page; empty on the last page."`
}

type endpointInput struct {
	Name string `path:"name" doc:"The endpoint's name." example:"loadbalancer-1"`
}

// TargetGroup is a scrape target, as Prometheus' HTTP service discovery has it.
type TargetGroup struct {
	Targets []string          `json:"targets" doc:"The host:port of the agent's metrics."`
	Labels  map[string]string `json:"labels" doc:"The labels of the target."`
}

func (a *API) endpointRoutes() {
	huma.Register(a.huma, operation("list-endpoints", "/endpoints", "List endpoints", endpointsText), a.endpoints)
	op := operation("get-endpoint", "/endpoints/{name}", "Get an endpoint", endpointText)
	op.Errors = append(op.Errors, http.StatusNotFound)
	huma.Register(a.huma, op, a.endpoint)
	huma.Register(a.huma, operation("discover", "/sd/prometheus", "Discover scrape targets", targetsText), a.targets)
}

func (a *API) endpoints(ctx context.Context, in *endpointsInput) (*struct{ Body EndpointList }, error) {
	list, err := a.store.Endpoints(ctx, in.Limit+1, in.Cursor)
	if err != nil {
		return nil, a.failure(ctx, err, "")
	}
	page := EndpointList{Endpoints: make([]tasker.Endpoint, 0, len(list))}
	for i, e := range list {
		if i == in.Limit {
			page.Next = list[i-1].Name
			break
		}
		page.Endpoints = append(page.Endpoints, whole(e))
	}
	return &struct{ Body EndpointList }{page}, nil
}

func (a *API) endpoint(ctx context.Context, in *endpointInput) (*struct{ Body tasker.Endpoint }, error) {
	absent := "no endpoint has ever been heard of under the name " + strconv.Quote(cut(in.Name))
	if tasker.ValidateEndpoint(in.Name) != nil {
		return nil, problem(http.StatusNotFound, absent)
	}
	seen(ctx).endpoint = in.Name
	e, err := a.store.Endpoint(ctx, in.Name)
	if err != nil {
		return nil, a.failure(ctx, err, absent)
	}
	return &struct{ Body tasker.Endpoint }{whole(e)}, nil
}

// targets lists those that are not connected too: that is how Prometheus
// notices that one is down.
func (a *API) targets(ctx context.Context, _ *struct{}) (*struct{ Body []TargetGroup }, error) {
	groups := []TargetGroup{}
	for after, more := "", true; more; {
		list, err := a.store.Endpoints(ctx, endpointPage, after)
		if err != nil {
			return nil, a.failure(ctx, err, "")
		}
		for _, e := range list {
			after = e.Name
			if e.Metrics != "" {
				groups = append(groups, target(e))
			}
		}
		more = len(list) == endpointPage
	}
	return &struct{ Body []TargetGroup }{groups}, nil
}

func target(e tasker.Endpoint) TargetGroup {
	labels := map[string]string{
		"endpoint":                e.Name,
		"__meta_tasker_endpoint":  e.Name,
		"__meta_tasker_version":   e.Version,
		"__meta_tasker_connected": strconv.FormatBool(e.Connected),
		// With a separator at both ends, so that a pattern can ask for ",ping,".
		"__meta_tasker_types": "," + strings.Join(e.Types, ",") + ",",
	}
	for name, value := range e.Labels {
		labels["__meta_tasker_label_"+labelName(name)] = value
	}
	return TargetGroup{Targets: []string{e.Metrics}, Labels: labels}
}

// labelName replaces what Prometheus allows in no label name.
func labelName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, s)
}

// whole writes empty lists as such, not as null.
func whole(e tasker.Endpoint) tasker.Endpoint {
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

// operation is a reading operation outside the task types.
func operation(id, path, summary, text string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: path, Tags: []string{"endpoints"}, Summary: summary, Description: text,
		Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}
}

// operation is one on the tasks of the type.
func (r taskRoutes) operation(method, path, verb, summary, text string) huma.Operation {
	op := huma.Operation{
		OperationID: verb + "-" + r.Name, Method: method, Path: "/" + r.Name + path, Tags: []string{r.Name},
		Summary: summary, Description: fmt.Sprintf("%s\n\nTask type: `%s`.", text, r.Name),
		Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable},
	}
	if path != "" {
		op.Errors = append(op.Errors, http.StatusNotFound)
	}
	return op
}
