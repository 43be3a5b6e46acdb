package rollout

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
)

// check compares the stored state with the invariants after every step.
func (m *model) check(r *rapid.T) {
	task, responses, err := m.store.TaskWithResponses(m.t.Context(), "ping", m.id)
	must(m.t, err)
	rollout := task.Rollout
	if rollout.Wave < m.waves || rollout.Wave > m.waves+1 {
		r.Fatalf("wave %d after wave %d", rollout.Wave, m.waves)
	}
	m.waves = rollout.Wave
	open, late := 0, 0
	for _, response := range responses {
		before := m.known[response.Endpoint]
		if response.Late {
			late++
		}
		switch {
		case response.Wave > rollout.Wave && response.Status != tasker.Pending && response.Status != tasker.Skipped && response.Status != tasker.Cancelled:
			r.Fatalf("%s of wave %d is %s in wave %d", response.Endpoint, response.Wave, response.Status, rollout.Wave)
		case before.Status == tasker.Skipped && response.Status != tasker.Skipped:
			r.Fatalf("%s was skipped and is %s", response.Endpoint, response.Status)
		case response.Status == tasker.Skipped && response.Reason == "":
			r.Fatalf("%s is skipped without a reason", response.Endpoint)
		}
		if response.Wave <= rollout.Wave && !response.Status.Ended() {
			open++
		}
		m.known[response.Endpoint] = response
	}
	if rollout.Wave > 0 && open > rollout.Waves[rollout.Wave-1]+late {
		r.Fatalf("%d are in flight, the wave has %d", open, rollout.Waves[rollout.Wave-1])
	}
	if task.Status == tasker.TaskPaused != (rollout.State == tasker.RolloutPaused) && task.CancelRequestedAt == nil && task.Counts[tasker.Missing] == 0 && task.FinishedAt == nil {
		r.Fatalf("the task is %s, its rollout %s", task.Status, rollout.State)
	}
	m.last = task
}

// end lets every agent succeed and every pause be resumed, and checks that the rollout ends.
func (m *model) end(r *rapid.T) {
	for range 200 {
		m.check(r)
		// After its end a rollout is due once more, and then never again.
		if m.last.FinishedAt != nil && m.last.Rollout.State.Ended() && !m.due() {
			m.ended(r)
			return
		}
		if m.last.Rollout.State == tasker.RolloutPaused && m.last.CancelRequestedAt == nil {
			_, err := m.store.ResumeTask(m.t.Context(), "ping", m.id, "somebody")
			must(m.t, err)
		}
		claims, err := m.store.ClaimDue(m.t.Context(), 1000)
		must(m.t, err)
		must(m.t, m.store.MarkSent(m.t.Context(), claims))
		m.check(r)
		for name, response := range m.known {
			if response.SentAt != nil && !response.Status.Ended() {
				m.sendUpdate(name, response.Attempt, tasker.Succeeded)
			}
		}
		m.now = m.now.Add(10 * time.Second)
		m.expire(r)
		m.restart(r)
		must(m.t, m.store.AcquireLease(m.t.Context(), m.lease, 5*time.Second))
		if m.due() {
			_, err := m.store.AdvanceRollout(m.t.Context(), m.lease, m.id, func(in decision.Input) (decision.Step, error) {
				in.Gate = &decision.GateResult{Passes: true}
				return decision.Next(in)
			})
			must(m.t, err)
		}
	}
	r.Fatalf("the rollout does not end: %s, %s, %+v, due: %t", m.last.Status, m.last.Rollout.State, m.last.Counts, m.due())
}

// due reports whether the rollout is due for a decision.
func (m *model) due() bool {
	due, err := m.store.DueRollouts(m.t.Context(), 1_000_000)
	must(m.t, err)
	return slices.Contains(due, m.id)
}

// ended checks a rollout that has ended.
func (m *model) ended(r *rapid.T) {
	rollout, counts := m.last.Rollout, m.last.Counts
	switch {
	case rollout.State == tasker.RolloutFinished && rollout.Wave != len(rollout.Waves):
		r.Fatalf("finished after %d of %d waves", rollout.Wave, len(rollout.Waves))
	case counts[tasker.Skipped] > 0 && rollout.State != tasker.RolloutStopped && rollout.State != tasker.RolloutCancelled:
		r.Fatalf("%d were skipped, and it is %s", counts[tasker.Skipped], rollout.State)
	case rollout.OnFailure == tasker.OnFailureRollback && rollout.State == tasker.RolloutStopped && rollout.Rollback == "":
		for _, response := range m.known {
			if response.StartedAt != nil && response.Status != tasker.Rejected {
				r.Fatalf("no endpoint was rolled back, but %s has started", response.Endpoint)
			}
		}
	}
	if rollout.Rollback == "" {
		return
	}
	undo, err := m.store.Task(m.t.Context(), "ping", rollout.Rollback)
	must(m.t, err)
	if undo.Action != tasker.Undo || undo.Undoes != m.id {
		r.Fatalf("the rollback is %+v", undo)
	}
}
