package api

import (
	"context"
	"errors"
	"slices"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// plan shows what a request would come to, and stores nothing.
func (r taskRoutes) plan(ctx context.Context, in *createInput) (*struct{ Body tasker.WavePlan }, error) {
	seen(ctx).taskType = r.Name
	n, selector, err := r.parse(r.Type, in.RawBody)
	if err != nil {
		return nil, err
	}
	p := tasker.WavePlan{Type: r.Name, Rollout: n.Rollout, Waves: [][]string{}, NotConnected: []string{}, NotServing: []string{}}
	switch task, err := r.store.SameTask(ctx, n); {
	case err == nil:
		p.Task = task.ID
	case !errors.Is(err, store.ErrNotFound):
		return nil, r.failure(ctx, err, "")
	}
	chosen, known := r.selection(&n, selector), map[string]tasker.Endpoint{}
	found, err := r.store.Select(ctx, func(e tasker.Endpoint) bool {
		known[e.Name] = e
		return chosen.selects(e)
	})
	if err != nil {
		return nil, r.failure(ctx, err, "")
	}
	p.Broadcast = chosen.broadcast()
	if n.Endpoints = chosen.join(found); !p.Broadcast {
		if err := r.bounded(&n, selector); err != nil {
			return nil, err
		}
	}
	for _, name := range n.Endpoints {
		switch e := known[name]; {
		case !e.Connected || e.RevokedAt != nil:
			p.NotConnected = append(p.NotConnected, name)
		case !slices.Contains(e.Types, r.Name):
			p.NotServing = append(p.NotServing, name)
		}
	}
	sizes := []int{len(n.Endpoints)}
	if n.Rollout != nil {
		sizes = n.Rollout.Sizes(len(n.Endpoints))
		n.Rollout.Order.Arrange(n.Endpoints, func(int, func(i, j int)) {}) // what is drawn by lot cannot be foreseen
	}
	left := append([]string{}, n.Endpoints...) // a list, though of nobody
	for _, size := range sizes {
		p.Waves, left = append(p.Waves, left[:size]), left[size:]
	}
	return &struct{ Body tasker.WavePlan }{p}, nil
}
