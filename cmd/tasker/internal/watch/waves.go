package watch

import (
	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

// wave is one wave of a rollout with the counts of its responses.
type wave struct {
	number, size int
	counts       tasker.Counts
}

// ended reports whether every response of the wave has ended.
func (w wave) ended() bool { return w.counts.Ended() >= w.size }

// failed returns the number of failures without cancelled responses.
func (w wave) failed() int { return w.counts.Failures() - w.counts[tasker.Cancelled] }

// waves returns the waves of the current attempt, and the counts of the responses of
// earlier attempts.
func waves(s client.State) (list []wave, earlier tasker.Counts) {
	earlier = tasker.Counts{}
	attempt := 0
	for _, r := range s.Responses {
		attempt = max(attempt, r.Attempt)
	}
	for i, size := range s.Task.Rollout.Waves {
		list = append(list, wave{number: i + 1, size: size, counts: tasker.Counts{}})
	}
	for _, r := range s.Responses {
		if r.Attempt < attempt || r.Wave < 1 || r.Wave > len(list) {
			earlier.Transition("", r.Status)
			continue
		}
		list[r.Wave-1].counts.Transition("", r.Status)
	}
	return list, earlier
}
