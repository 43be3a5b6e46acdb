package describe

import (
	"fmt"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

// RolloutState returns the state of a task's rollout with its wave and reason.
func RolloutState(t tasker.Task) string {
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
		return "begins at " + Time(*t.NotBefore)
	case tasker.RolloutSoaking:
		s = "before " + next + ": soaking " + Until(r)
		if r.Gate != nil {
			s += ", then the gate"
		}
	case tasker.RolloutGating:
		s = "before " + next + ": " + GateState(r)
	case tasker.RolloutStopped, tasker.RolloutRollingBack:
		s += " in " + of(r.Wave)
	case tasker.RolloutPlanned:
		s = "planned in " + Plural(len(r.Waves), "wave")
	}
	switch reason := terminal.OneLine(r.Reason); {
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

// Until returns when a timed state of a rollout ends.
func Until(r tasker.Rollout) string {
	if r.Until == nil {
		return "soon"
	}
	return "until " + r.Until.Local().Format(time.TimeOnly)
}

// GateState returns the state of a gate that is evaluated.
func GateState(r tasker.Rollout) string {
	if r.Until == nil {
		return "the gate is evaluated"
	}
	return "the gate must hold " + Until(r)
}

// RolloutPolicy returns the actions of a rollout after failures and between its waves, as names
// and values.
func RolloutPolicy(s tasker.RolloutSpec, total int) [][2]string {
	n := s.MaxFailures.Of(total)
	action := map[tasker.OnFailure]string{
		tasker.OnFailureStop:     "stops at the %s failure of %d: running endpoints finish, the others are skipped",
		tasker.OnFailurePause:    "pauses at the %s failure of %d: running endpoints finish, then a person decides",
		tasker.OnFailureRollback: "stops at the %s failure of %d, then is undone on the endpoints where it was started",
	}[s.OnFailure]
	failures := "all endpoints may fail"
	if n < total {
		failures = fmt.Sprintf(action, Ordinal(n+1), total)
	}
	list := [][2]string{{"failures", failures}}
	var between []string
	if s.PauseBetween > 0 {
		between = append(between, fmt.Sprintf("wait %v", s.PauseBetween))
	}
	if g := s.Gate; g != nil {
		condition := "this URL must answer 2xx: " + g.URL
		if g.PromQL != "" {
			condition = "this query must hold: " + g.PromQL
		}
		if g.For > 0 {
			condition = fmt.Sprintf("for %v, %s", g.For, condition)
		}
		between = append(between, condition)
	}
	if len(between) > 0 {
		list = append(list, [2]string{"between", strings.Join(between, ", then ")})
	}
	if s.PauseAfterCanary && s.Canary.N > 0 {
		list = append(list, [2]string{"canary", "then pause until a person resumes"})
	}
	if s.Exclusive {
		list = append(list, [2]string{"exclusive", "no other rollout uses its endpoints at the same time"})
	}
	return list
}

// waveSizes returns the sizes of the waves, with equal ones combined.
func waveSizes(r tasker.Rollout) string {
	var parts []string
	for i := 0; i < len(r.Waves); {
		n := 1
		for i+n < len(r.Waves) && r.Waves[i+n] == r.Waves[i] {
			n++
		}
		part := fmt.Sprint(r.Waves[i])
		if n > 1 {
			part = fmt.Sprintf("%d × %d", n, r.Waves[i])
		}
		parts, i = append(parts, part), i+n
	}
	sizes := strings.Join(parts, ", ")
	if r.State == tasker.RolloutPlanned {
		return sizes // no wave begins
	}
	return fmt.Sprintf("%s; %d of %d have begun", sizes, r.Wave, len(r.Waves))
}
