package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

// wave is one wave of a rollout and what has become of it.
type wave struct {
	number, size int
	counts       tasker.Counts
}

func (w wave) ended() bool { return w.counts.Ended() >= w.size }

// failed is how many have failed by themselves.
func (w wave) failed() int { return w.counts.Failures() - w.counts[tasker.Cancelled] }

// waves are those of the attempt that is made now; earlier are the endpoints that
// are done since an earlier one.
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

// standing says where a rollout stands.
func standing(t tasker.Task) string {
	r := *t.Rollout
	of := func(n int) string { return fmt.Sprintf("wave %d of %d", n, len(r.Waves)) }
	next := of(min(r.Wave+1, len(r.Waves)))
	s := strings.ReplaceAll(string(r.State), "_", " ")
	switch r.State {
	case tasker.RolloutRunning:
		return of(r.Wave)
	case tasker.RolloutScheduled:
		if t.NotBefore == nil {
			return s
		}
		return "begins at " + clock(*t.NotBefore)
	case tasker.RolloutSoaking:
		s = "before " + next + ": soaking " + until(r)
		if r.Gate != nil {
			s += ", then the gate"
		}
	case tasker.RolloutGating:
		s = "before " + next + ": " + gating(r)
	case tasker.RolloutStopped, tasker.RolloutRollingBack:
		s += " in " + of(r.Wave)
	case tasker.RolloutPlanned:
		s = "planned in " + plural(len(r.Waves), "wave")
	}
	switch reason := plain(r.Reason); {
	case reason == "":
	case strings.HasPrefix(reason, s), r.State == tasker.RolloutWaiting:
		s = reason
	default:
		s += ": " + reason
	}
	if r.Rollback != "" {
		s += "; task " + r.Rollback + " undoes it"
	}
	return s
}

// until is when a state ends that goes by time.
func until(r tasker.Rollout) string {
	if r.Until == nil {
		return "soon"
	}
	return "until " + r.Until.Local().Format(time.TimeOnly)
}

// gating is what the gate is at.
func gating(r tasker.Rollout) string {
	if r.Until == nil {
		return "the gate is asked"
	}
	return "the gate must hold " + until(r)
}

// policy says what a rollout does with failures and between its waves, a line each.
func policy(s tasker.RolloutSpec, total int) [][2]string {
	n := s.MaxFailures.Of(total)
	does := map[tasker.OnFailure]string{
		tasker.OnFailureStop:     "stops with the %s failure of %d: what runs may finish, the rest is skipped",
		tasker.OnFailurePause:    "pauses with the %s failure of %d: what runs may finish, a person decides",
		tasker.OnFailureRollback: "stops with the %s failure of %d, and is undone where something was changed",
	}[s.OnFailure]
	failures := "cannot stop it: all may fail"
	if n < total {
		failures = fmt.Sprintf(does, ordinal(n+1), total)
	}
	list := [][2]string{{"failures", failures}}
	var between []string
	if s.PauseBetween > 0 {
		between = append(between, fmt.Sprintf("%v pass", s.PauseBetween))
	}
	if g := s.Gate; g != nil {
		asked := "answer 2xx: " + g.URL
		if g.PromQL != "" {
			asked = "hold: " + g.PromQL
		}
		if g.For > 0 {
			asked = fmt.Sprintf("for %v %s", g.For, asked)
		}
		between = append(between, "this must "+asked)
	}
	if len(between) > 0 {
		list = append(list, [2]string{"between", strings.Join(between, ", then ")})
	}
	if s.PauseAfterCanary && s.Canary.N > 0 {
		list = append(list, [2]string{"canary", "is followed by a pause until somebody resumes"})
	}
	if s.Exclusive {
		list = append(list, [2]string{"exclusive", "no other rollout is on one of its endpoints meanwhile"})
	}
	return list
}

// ordinal writes 1st, 2nd, 3rd, 4th.
func ordinal(n int) string {
	suffix := "th"
	if n/10%10 != 1 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprint(n) + suffix
}

// plural writes 1 endpoint, 2 endpoints.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
