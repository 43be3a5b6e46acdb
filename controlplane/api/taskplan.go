package api

import (
	"context"
	"errors"
	"slices"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// plan returns the endpoints of each wave of a request, and stores nothing.
func (r taskResource) plan(ctx context.Context, in *createInput) (*bodyOutput[tasker.WavePlan], error) {
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
	return &bodyOutput[tasker.WavePlan]{plan}, nil
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
