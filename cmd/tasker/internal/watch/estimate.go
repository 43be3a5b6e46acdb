package watch

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

// usualRunTime returns the median run time of an endpoint in the last similar tasks of the
// type that succeeded; zero if there was none.
func usualRunTime(ctx context.Context, c *client.Client, task tasker.Task) (time.Duration, error) {
	const listed, used = 20, 3
	list, err := c.List(ctx, task.Type, client.ListOptions{Status: string(tasker.TaskSucceeded), Limit: listed})
	if err != nil {
		return 0, err
	}
	var took []time.Duration
	read := 0
	for _, t := range list.Tasks {
		if t.Action != task.Action || t.ID == task.ID || read == used {
			continue
		}
		read++
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

// remaining estimates how long a rollout still takes, if every wave takes the usual run
// time; zero if that is unknown.
func remaining(s client.State, usual time.Duration, now time.Time) time.Duration {
	r := s.Task.Rollout
	gate := time.Duration(0)
	if r.Gate != nil {
		gate = r.Gate.For.D()
	}
	// rest is the time until the current timed state ends.
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
		return remainingOfWave(s, usual, now) + time.Duration(further)*each
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

// formatEstimate returns an estimate with a sensible precision.
func formatEstimate(d time.Duration) string {
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

// remainingOfWave estimates how long the current wave still takes.
func remainingOfWave(s client.State, usual time.Duration, now time.Time) time.Duration {
	longest := time.Duration(0)
	for _, r := range s.Responses {
		switch {
		case r.Status.Ended() || r.Wave > s.Task.Rollout.Wave:
		case r.StartedAt == nil:
			longest = max(longest, usual)
		default:
			longest = max(longest, usual-now.Sub(*r.StartedAt))
		}
	}
	return longest
}
