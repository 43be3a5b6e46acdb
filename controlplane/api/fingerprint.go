package api

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/strictjson"
)

// fingerprint returns a digest that is equal for requests for the same task. White space,
// the order of keys and endpoints, and explicit defaults make no difference.
func (p *taskParser) fingerprint(n store.NewTask) ([sha256.Size]byte, error) {
	canonical := map[string]any{}
	switch {
	case n.Rollout != nil && n.Rollout.Order == tasker.OrderListed:
		canonical["endpoints"] = n.Endpoints // their order is the order of the waves
	case n.Endpoints != nil:
		canonical["endpoints"] = slices.Sorted(slices.Values(n.Endpoints))
	}
	if n.ReceiveTimeout != p.opts.ReceiveTimeout {
		canonical["receive_timeout"] = n.ReceiveTimeout
	}
	if n.Timeout != p.taskType.Timeout {
		canonical["timeout"] = n.Timeout
	}
	for field, v := range map[string]any{"labels": n.Labels, "dry_run": n.Action, "not_before": n.NotBefore, "rollout": n.Rollout, "callback": n.Callback} {
		if !reflect.ValueOf(v).IsZero() {
			canonical[field] = v
		}
	}
	var err error
	if canonical["payload"], err = strictjson.Value(n.Payload); err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("canonical payload: %w", err)
	}
	data, err := json.Marshal(canonical)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("canonical request: %w", err)
	}
	return sha256.Sum256(data), nil
}
