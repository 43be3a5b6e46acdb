package api

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// selection determines the endpoints of a request: those it names and those its labels
// select or, without both, all that serve the type. The last is a broadcast, unless the
// task has a rollout, which must know its endpoints before it begins.
type selection struct {
	taskType string
	named    []string
	labels   tasker.Selector
	rollout  bool
}

// isUnrestricted reports whether the request has neither names nor labels.
func (s selection) isUnrestricted() bool { return s.named == nil && s.labels == nil }

// isBroadcast reports whether the order goes to every endpoint, instead of to the
// endpoints that are known when the task is stored.
func (s selection) isBroadcast() bool { return s.isUnrestricted() && !s.rollout }

// needsEndpoints reports whether known endpoints must be matched.
func (s selection) needsEndpoints() bool { return s.labels != nil || s.isUnrestricted() && s.rollout }

// matches reports whether an endpoint is selected without being named. A revoked
// endpoint never is.
func (s selection) matches(e tasker.Endpoint) bool {
	switch {
	case e.RevokedAt != nil:
		return false
	case s.labels != nil:
		return s.labels.Matches(e.Labels)
	default:
		return s.isUnrestricted() && slices.Contains(e.Types, s.taskType)
	}
}

// withMatched returns the named endpoints, followed by the matched ones that are not
// named.
func (s selection) withMatched(matched []string) []string {
	named := make(map[string]bool, len(s.named))
	for _, name := range s.named {
		named[name] = true
	}
	all := slices.Clone(s.named)
	for _, name := range matched {
		if !named[name] {
			all = append(all, name)
		}
	}
	return all
}

// checkSize rejects a selection of no endpoints, or of too many.
func (s selection) checkSize(endpoints []string) error {
	location := "body.labels"
	if s.labels == nil {
		location = "body.endpoints"
	}
	switch {
	case endpoints == nil:
		return fieldProblem(http.StatusUnprocessableEntity, "the task has no endpoint", location,
			"selects no endpoint that is known; GET /endpoints lists the endpoints with their labels")
	case len(endpoints) > maxEndpoints:
		return fieldProblem(http.StatusUnprocessableEntity, "the task has too many endpoints", location,
			fmt.Sprintf("selects %d endpoints; at most %d are allowed", len(endpoints), maxEndpoints))
	}
	return nil
}

// resolveEndpoints adds the matched endpoints to the named ones, and orders all for a
// rollout.
func (r taskResource) resolveEndpoints(ctx context.Context, request *taskRequest) error {
	s, task := request.selection(), &request.task
	if s.needsEndpoints() {
		matched, err := r.store.Select(ctx, s.matches)
		if err != nil {
			return r.problem(ctx, err, "")
		}
		task.Endpoints = s.withMatched(matched)
	}
	if err := s.checkSize(task.Endpoints); err != nil {
		return err
	}
	if task.Rollout != nil {
		task.Rollout.Order.Arrange(task.Endpoints, rand.Shuffle)
	}
	return nil
}

// plan returns the endpoints of each wave of a request, and stores nothing.
func (r taskResource) plan(ctx context.Context, in *createInput) (*struct{ Body tasker.WavePlan }, error) {
	recordOf(ctx).taskType = r.taskType.Name
	request, err := parseTask(r.opts, r.taskType, in.RawBody)
	if err != nil {
		return nil, err
	}
	task := &request.task
	plan := tasker.WavePlan{Type: r.taskType.Name, Rollout: task.Rollout, Waves: [][]string{}, NotConnected: []string{}, NotServing: []string{}}
	switch existing, err := r.store.SameTask(ctx, *task); {
	case err == nil:
		plan.Task = existing.ID
	case !errors.Is(err, store.ErrNotFound):
		return nil, r.problem(ctx, err, "")
	}
	s, known := request.selection(), map[string]tasker.Endpoint{}
	matched, err := r.store.Select(ctx, func(e tasker.Endpoint) bool {
		known[e.Name] = e
		return s.matches(e)
	})
	if err != nil {
		return nil, r.problem(ctx, err, "")
	}
	task.Endpoints = s.withMatched(matched)
	if plan.Broadcast = s.isBroadcast(); !plan.Broadcast {
		if err := s.checkSize(task.Endpoints); err != nil {
			return nil, err
		}
	}
	for _, name := range task.Endpoints {
		switch e := known[name]; {
		case !e.Connected || e.RevokedAt != nil:
			plan.NotConnected = append(plan.NotConnected, name)
		case !slices.Contains(e.Types, r.taskType.Name):
			plan.NotServing = append(plan.NotServing, name)
		}
	}
	plan.Waves = waves(task.Rollout, task.Endpoints)
	return &struct{ Body tasker.WavePlan }{plan}, nil
}

// waves splits the endpoints into the waves of a rollout, or into one wave without a
// rollout. A random order is not known before the task is stored.
func waves(rollout *tasker.RolloutSpec, endpoints []string) [][]string {
	sizes := []int{len(endpoints)}
	if rollout != nil {
		sizes = rollout.WaveSizes(len(endpoints))
		rollout.Order.Arrange(endpoints, func(int, func(i, j int)) {})
	}
	rest := append([]string{}, endpoints...) // not nil, so that a wave is never null
	list := make([][]string, 0, len(sizes))
	for _, size := range sizes {
		list, rest = append(list, rest[:size]), rest[size:]
	}
	return list
}
