package rollout

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

func TestMain(m *testing.M) {
	// The default; -rapid.checks=1000 looks longer.
	if err := flag.Set("rapid.checks", "30"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever agents, people, gates, clocks, retries and restarts do: a wave begins only when
// the ones before it have ended and no more have failed than may, nothing is sent
// of a wave that has not begun, nothing begins twice, and there is an end.
func TestModel(t *testing.T) {
	t.Parallel()
	for name, options := range storetest.Dialects() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &model{t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
			o := options(t)
			o.Types, o.Clock = []tasker.TaskType{{Name: "ping", Handler: "ping"}}, func() time.Time { return m.now }
			m.store = storetest.Open(t, o)
			rapid.Check(t, func(r *rapid.T) {
				m.begin(r)
				r.Repeat(map[string]func(*rapid.T){
					"advance": m.advance, "restart": m.restart, "send": m.send, "report": m.report, "expire": m.expire,
					"wait": m.wait, "hello": m.hello, "pause": m.pause, "resume": m.resume, "cancel": m.cancel,
					"retry": m.retry,
					"":      m.check,
				})
				m.end(r)
			})
		})
	}
}

// model is a rollout, and what the test knows of it.
type model struct {
	t     *testing.T
	store *store.Store
	now   time.Time
	n     int // of tasks

	id    string
	gate  bool // what it says
	lease store.Lease
	seq   int64
	last  tasker.Task
	known map[string]tasker.Response
	waves int // that have begun
}

func (m *model) begin(r *rapid.T) {
	m.n++
	var names []string
	for i := range rapid.IntRange(1, 9).Draw(r, "endpoints") {
		names = append(names, fmt.Sprintf("lb-%d-%d", m.n, i))
	}
	amount := rapid.Custom(func(r *rapid.T) tasker.Amount {
		if rapid.Bool().Draw(r, "percent") {
			return tasker.Amount{N: rapid.IntRange(0, 100).Draw(r, "n"), Percent: true}
		}
		return tasker.Amount{N: rapid.IntRange(0, 4).Draw(r, "n")}
	})
	spec := tasker.RolloutSpec{
		Canary: amount.Draw(r, "canary"), Batch: rapid.SliceOfN(amount, 0, 3).Draw(r, "batch"),
		MaxFailures: amount.Draw(r, "max_failures"), PauseAfterCanary: rapid.Bool().Draw(r, "pause_after_canary"),
		OnFailure: rapid.SampledFrom([]tasker.OnFailure{tasker.OnFailureStop, tasker.OnFailurePause, tasker.OnFailureRollback}).Draw(r, "on_failure"),
		Order:     tasker.OrderListed,
	}
	if rapid.Bool().Draw(r, "pause_between") {
		spec.PauseBetween = tasker.Duration(10 * time.Second)
	}
	if rapid.Bool().Draw(r, "gate") {
		spec.Gate = &tasker.Gate{URL: "http://127.0.0.1/", For: tasker.Duration(10 * time.Second)}
	}
	n := store.NewTask{
		Identifier: fmt.Sprintf("t-%d", m.n), Type: "ping", Endpoints: names, Rollout: &spec,
		ReceiveTimeout: 30 * time.Second, Fingerprint: sha256.Sum256([]byte{byte(m.n)}),
	}
	if rapid.Bool().Draw(r, "not_before") {
		at := m.now.Add(time.Minute)
		n.NotBefore = &at
	}
	task, created, err := m.store.CreateTask(m.t.Context(), n)
	if err != nil || !created {
		r.Fatalf("create: %v, %v", created, err)
	}
	m.id, m.last, m.known, m.waves, m.gate = task.ID, task, map[string]tasker.Response{}, 0, true
	m.restart(r)
}

// restart is a control plane that was killed: another one takes over when the
// lease has run out.
func (m *model) restart(*rapid.T) {
	m.now = m.now.Add(6 * time.Second)
	m.lease = store.Lease{Name: "rollouts", Holder: fmt.Sprint("holder-", m.now.UnixNano())}
	must(m.t, m.store.AcquireLease(m.t.Context(), m.lease, 5*time.Second))
}

func (m *model) advance(r *rapid.T) {
	m.gate = rapid.IntRange(0, 9).Draw(r, "gate") > 0
	must(m.t, m.store.AcquireLease(m.t.Context(), m.lease, 5*time.Second))
	if !m.due() {
		return
	}
	wrong := "" // said after the transaction, which a panic would leave open
	_, err := m.store.AdvanceRollout(m.t.Context(), m.lease, m.id, func(in decision.Input) (decision.Step, error) {
		in.Gate = &decision.GateResult{Passes: m.gate, Reason: "by the test"}
		step, err := decision.Next(in)
		if step.Release {
			rollout := in.Task.Rollout
			if failures, may := in.Task.Counts.Failures(), rollout.MaxFailures.Of(in.Task.Counts.Total()); failures > max(may, rollout.Accepted) {
				wrong = fmt.Sprintf("a wave begins with %d failures, %d may", failures, may)
			}
			if open := in.Task.Counts.Total() - in.Task.Counts.Ended(); open != rollout.Unreleased() {
				wrong = fmt.Sprintf("a wave begins with %d open, %d of them in later waves", open, rollout.Unreleased())
			}
			if in.Task.CancelRequestedAt != nil || rollout.State == tasker.RolloutPaused || in.Task.NotBefore != nil && in.Now.Before(*in.Task.NotBefore) {
				wrong = fmt.Sprintf("a wave begins in %s", rollout.State)
			}
		}
		return step, err
	})
	must(m.t, err)
	if wrong != "" {
		r.Fatal(wrong)
	}
}

func (m *model) send(r *rapid.T) {
	claims, err := m.store.ClaimDue(m.t.Context(), 5)
	must(m.t, err)
	var sent []store.Claim
	var unsent []store.Unsent
	for _, c := range claims {
		if c.TaskID == m.id && !c.Cancel && m.known[c.Endpoint].Wave > m.last.Rollout.Wave {
			r.Fatalf("%s of wave %d is sent in wave %d", c.Endpoint, m.known[c.Endpoint].Wave, m.last.Rollout.Wave)
		}
		if rapid.IntRange(0, 4).Draw(r, "lost") == 0 {
			unsent = append(unsent, store.Unsent{Claim: c, Reason: "unroutable", After: time.Second})
		} else {
			sent = append(sent, c)
		}
	}
	must(m.t, m.store.MarkSent(m.t.Context(), sent))
	must(m.t, m.store.MarkUnsent(m.t.Context(), unsent))
}

// report lets one that has got the task say something of it, perhaps late.
func (m *model) report(r *rapid.T) {
	var able []string
	for name, response := range m.known {
		if response.SentAt != nil && (!response.Status.Ended() || response.Presumed) {
			able = append(able, name)
		}
	}
	if len(able) == 0 {
		r.Skip("nobody has it")
	}
	slices.Sort(able)
	endpoint := rapid.SampledFrom(able).Draw(r, "endpoint")
	attempt := m.known[endpoint].Attempt
	if attempt > 1 && rapid.IntRange(0, 5).Draw(r, "of an earlier attempt") == 0 {
		attempt--
	}
	m.say(endpoint, attempt, rapid.SampledFrom([]tasker.ResponseStatus{
		tasker.Received, tasker.Running, tasker.Succeeded, tasker.Succeeded, tasker.Succeeded, tasker.Failed,
		tasker.TimedOut, tasker.Rejected, tasker.Interrupted,
	}).Draw(r, "status"))
}

func (m *model) say(endpoint string, attempt int, status tasker.ResponseStatus) {
	m.seq++
	_, err := m.store.Apply(m.t.Context(), []tasker.Report{{Version: 1, Endpoint: endpoint, Update: &tasker.Update{
		TaskID: m.id, Type: "ping", Attempt: attempt, Seq: m.seq, Status: status, StartedAt: &m.now,
	}}})
	must(m.t, err)
}

func (m *model) hello(r *rapid.T) {
	m.seq++
	_, err := m.store.Apply(m.t.Context(), []tasker.Report{{Version: 1, Endpoint: fmt.Sprintf("lb-%d-0", m.n), Hello: &tasker.Hello{Session: fmt.Sprint(m.seq)}}})
	must(m.t, err)
}

func (m *model) expire(*rapid.T) {
	_, _, err := m.store.ExpireMissing(m.t.Context(), time.Time{}, 1000)
	must(m.t, err)
}

func (m *model) wait(r *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 40).Draw(r, "seconds")) * time.Second)
	must(m.t, m.store.AcquireLease(m.t.Context(), m.lease, 5*time.Second))
}

func (m *model) pause(r *rapid.T) { m.ask(r, m.store.PauseTask) }

func (m *model) resume(r *rapid.T) { m.ask(r, m.store.ResumeTask) }

func (m *model) cancel(r *rapid.T) {
	if rapid.IntRange(0, 5).Draw(r, "really") == 0 {
		m.ask(r, m.store.CancelTask)
	}
}

// retry begins anew with those that did not succeed, or with all if they were undone.
func (m *model) retry(r *rapid.T) {
	switch _, err := m.store.RetryTask(m.t.Context(), "ping", m.id, "somebody"); {
	case err == nil:
		m.waves, m.known = 0, map[string]tasker.Response{}
	case !errors.Is(err, store.ErrUnfinished) && !errors.Is(err, store.ErrNothingToRetry) && !errors.Is(err, store.ErrUndoing):
		r.Fatal(err)
	}
}

// ask has a person ask for something, in time or not.
func (m *model) ask(r *rapid.T, f func(ctx context.Context, taskType, ref, by string) (tasker.Task, error)) {
	_, err := f(m.t.Context(), "ping", m.id, "somebody")
	if err != nil && !errors.Is(err, store.ErrRolloutEnded) && !errors.Is(err, store.ErrNotPaused) {
		r.Fatal(err)
	}
}

// check holds after every step.
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
			r.Fatalf("%s is skipped for no reason", response.Endpoint)
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

// end lets everybody do what they should, and sees that this leads to an end.
func (m *model) end(r *rapid.T) {
	for range 200 {
		m.check(r)
		// What is over is looked at once more, and then no longer.
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
				m.say(name, response.Attempt, tasker.Succeeded)
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
	r.Fatalf("there is no end: %s, %s, %+v, looked at: %t", m.last.Status, m.last.Rollout.State, m.last.Counts, m.due())
}

// due says whether the rollout is to be looked at.
func (m *model) due() bool {
	due, err := m.store.DueRollouts(m.t.Context(), 1_000_000)
	must(m.t, err)
	return slices.Contains(due, m.id)
}

// ended holds at the end.
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
				r.Fatalf("it was rolled back nowhere, but %s has started", response.Endpoint)
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
