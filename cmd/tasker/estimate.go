package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

// usually is the median of what an endpoint took in the last tasks of the type
// that succeeded and did the same; zero if there was none.
func usually(ctx context.Context, c *client.Client, task tasker.Task) (time.Duration, error) {
	const look, tasks = 20, 3
	list, err := c.List(ctx, task.Type, client.ListOptions{Status: string(tasker.TaskSucceeded), Limit: look})
	if err != nil {
		return 0, err
	}
	var took []time.Duration
	asked := 0
	for _, t := range list.Tasks {
		if t.Action != task.Action || t.ID == task.ID || asked == tasks {
			continue
		}
		asked++
		s, err := c.Get(ctx, t.Type, t.ID)
		if err != nil {
			return 0, err
		}
		for _, r := range s.Responses {
			if r.StartedAt != nil && r.FinishedAt != nil {
				took = append(took, r.FinishedAt.Sub(*r.StartedAt))
			}
		}
	}
	if len(took) == 0 {
		return 0, nil
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// left is how long a rollout still takes if every wave takes what an endpoint
// usually does; zero if that cannot be said.
func left(s client.State, usual time.Duration, now time.Time) time.Duration {
	r := s.Task.Rollout
	gate := time.Duration(0)
	if r.Gate != nil {
		gate = r.Gate.For.D()
	}
	// rest is what is left of the time until the next wave begins.
	rest := time.Duration(0)
	if r.Until != nil {
		rest = max(r.Until.Sub(now), 0)
	}
	further := len(r.Waves) - r.Wave
	each := usual + r.PauseBetween.D() + gate
	switch {
	case usual == 0, s.Task.CancelRequestedAt != nil, r.PauseAfterCanary && r.Canary.N > 0 && r.Wave == 1 && r.State == tasker.RolloutRunning:
		return 0
	case r.State == tasker.RolloutRunning:
		wave := time.Duration(0)
		for _, p := range s.Responses {
			switch {
			case p.Status.Ended() || p.Wave > r.Wave:
			case p.StartedAt == nil:
				wave = max(wave, usual)
			default:
				wave = max(wave, usual-now.Sub(*p.StartedAt))
			}
		}
		return wave + time.Duration(further)*each
	case r.State == tasker.RolloutSoaking:
		return rest + gate + usual + time.Duration(further-1)*each
	case r.State == tasker.RolloutGating:
		if r.Until == nil {
			rest = gate
		}
		return rest + usual + time.Duration(further-1)*each
	}
	return 0
}

// about is an estimate for people: as exact as it is worth.
func about(d time.Duration) string {
	switch minutes := int(d.Round(time.Minute).Minutes()); {
	case d <= 0:
		return ""
	case d < 90*time.Second:
		const step = 5 * time.Second
		return fmt.Sprintf("about %ds left", int((d + step - 1).Truncate(step).Seconds()))
	case minutes < 60:
		return fmt.Sprintf("about %dm left", minutes)
	default:
		return fmt.Sprintf("about %dh%02dm left", minutes/60, minutes%60)
	}
}
