package decision

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
)

// betweenWaves is a rollout whose first of two waves has succeeded.
func betweenWaves(state tasker.RolloutState) Input {
	in := Input{Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), By: "alice"}
	in.Task.Counts = tasker.Counts{tasker.Succeeded: 1, tasker.Pending: 1}
	in.Task.Rollout = &tasker.Rollout{State: state, Wave: 1, Waves: []int{1, 1}}
	if state == tasker.RolloutPaused {
		in.Task.Rollout.Resume = tasker.RolloutRunning
	}
	return in
}

// outcome is the state after the decision with its action, or the refusal.
func outcome(in Input) string {
	step, err := Next(in)
	switch {
	case err != nil:
		return err.Error()
	case step.Release:
		return string(step.State) + ", release"
	case step.Skip:
		return string(step.State) + ", skip"
	case step.Rollback:
		return string(step.State) + ", rollback"
	case step.Restart:
		return string(step.State) + ", restart"
	case step.State == in.Task.Rollout.State:
		return "-"
	}
	return string(step.State)
}

func TestEachRequestInEachState(t *testing.T) {
	t.Parallel()
	requests := []Request{"", Pause, Resume, Retry, Cancel}
	ended, notPaused := ErrEnded.Error(), ErrNotPaused.Error()
	rollingBack := ended + ": it is being rolled back"
	for state, want := range map[tasker.RolloutState][]string{
		tasker.RolloutScheduled:   {"waiting", "paused", notPaused, "waiting, restart", "-"},
		tasker.RolloutWaiting:     {"running, release", "paused", notPaused, "waiting, restart", "-"},
		tasker.RolloutRunning:     {"gating", "paused", notPaused, "waiting, restart", "-"},
		tasker.RolloutSoaking:     {"gating", "paused", notPaused, "waiting, restart", "-"},
		tasker.RolloutGating:      {"running, release", "paused", notPaused, "waiting, restart", "-"},
		tasker.RolloutPaused:      {"-", "-", "running", "waiting, restart", "running"},
		tasker.RolloutRollingBack: {"-", rollingBack, rollingBack, ErrUndoing.Error(), "-"},
		tasker.RolloutStopped:     {"-", ended, ended, "waiting, restart", "-"},
		tasker.RolloutCancelled:   {"-", ended, ended, "waiting, restart", "-"},
		tasker.RolloutFinished:    {"-", ended, ended, "waiting, restart", "-"},
		tasker.RolloutPlanned:     {"-", ended, ended, "-", "-"},
	} {
		got := make([]string, len(requests))
		for i, request := range requests {
			in := betweenWaves(state)
			in.Request = request
			got[i] = outcome(in)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: without a request and by %v (-want +got):\n%s", state, requests[1:], diff)
		}
	}
	if got := len(tasker.RolloutStates()); got != 11 {
		t.Errorf("there are %d states, want each of them in the table", got)
	}
}

// A cancel ends a rollout as soon as every response has ended; until then a pause or a
// resume is refused.
func TestCancelledRollout(t *testing.T) {
	t.Parallel()
	for _, state := range tasker.RolloutStates() {
		in := betweenWaves(state)
		in.Task.CancelRequestedAt, in.Task.CancelRequestedBy = &in.Now, "bob"
		for _, in.Request = range []Request{Pause, Resume} {
			if _, err := Next(in); !errors.Is(err, ErrEnded) {
				t.Errorf("%s of a cancelled rollout in %s: %v, want ErrEnded", in.Request, state, err)
			}
		}
		in.Request = ""
		if step := next(t, in); step.IsMove(*in.Task.Rollout) != (state == tasker.RolloutPaused) {
			t.Errorf("%s, cancelled with an open response: %+v", state, step)
		}
		in.Task.Counts = tasker.Counts{tasker.Succeeded: 1, tasker.Cancelled: 1}
		if step := next(t, in); step.State != tasker.RolloutCancelled {
			t.Errorf("%s, cancelled without an open response: %+v", state, step)
		}
	}
}

func TestPauseAndResumeKeepState(t *testing.T) {
	t.Parallel()
	for _, state := range []tasker.RolloutState{
		tasker.RolloutScheduled, tasker.RolloutWaiting, tasker.RolloutRunning, tasker.RolloutSoaking, tasker.RolloutGating,
	} {
		for _, onFailure := range []tasker.OnFailure{tasker.OnFailureStop, tasker.OnFailurePause} {
			in := betweenWaves(state)
			until := in.Now.Add(time.Minute)
			in.Task.Rollout.Until, in.Task.Rollout.OnFailure = &until, onFailure
			in.Request = Pause
			paused := next(t, in)
			want := Step{State: tasker.RolloutPaused, Resume: state, Reason: "paused by alice", Until: &until}
			if diff := cmp.Diff(want, paused); diff != "" {
				t.Errorf("pause in %s (-want +got):\n%s", state, diff)
			}
			r := in.Task.Rollout
			r.State, r.Resume, r.Reason, r.Until = paused.State, paused.Resume, paused.Reason, paused.Until
			in.Request = Resume
			want = Step{State: state, Until: &until, Accept: onFailure == tasker.OnFailurePause}
			if state == tasker.RolloutGating {
				want.Until = nil // the gate must hold for the whole time again
			}
			if diff := cmp.Diff(want, next(t, in)); diff != "" {
				t.Errorf("resume to %s (-want +got):\n%s", state, diff)
			}
		}
	}
}

func TestRetryWaitsForNotBefore(t *testing.T) {
	t.Parallel()
	in := betweenWaves(tasker.RolloutStopped)
	in.Request = Retry
	for wait, want := range map[time.Duration]string{-1: "waiting, restart", 0: "waiting, restart", 1: "scheduled, restart"} {
		at := in.Now.Add(wait)
		in.Task.NotBefore = &at
		if got := outcome(in); got != want {
			t.Errorf("retry %s before the start: %s, want %s", wait, got, want)
		}
	}
}
