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
	// -rapid.checks=1000 runs more histories.
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

// TestModel checks random histories of agents, people, gates, clocks, retries and
// restarts. A wave begins only when earlier waves have ended within the failure budget.
// No order of a later wave is sent, no wave begins twice, and every rollout ends.
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

// model is a rollout with the state that the test has read from the store.
type model struct {
	t     *testing.T
	store *store.Store
	now   time.Time
	n     int // how many tasks were created

	id    string
	gate  bool // the result of the next check
	lease store.Lease
	seq   int64
	last  tasker.Task
	known map[string]tasker.Response
	waves int // how many waves have begun
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

// restart replaces the control plane: another one leads after the lease has expired.
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
	wrong := "" // reported after the transaction, which a panic would leave open
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

// report sends a report of an agent that has received the task, perhaps late.
func (m *model) report(r *rapid.T) {
	var able []string
	for name, response := range m.known {
		if response.SentAt != nil && (!response.Status.Ended() || response.Presumed) {
			able = append(able, name)
		}
	}
	if len(able) == 0 {
		r.Skip("no agent has the task")
	}
	slices.Sort(able)
	endpoint := rapid.SampledFrom(able).Draw(r, "endpoint")
	attempt := m.known[endpoint].Attempt
	if attempt > 1 && rapid.IntRange(0, 5).Draw(r, "earlier attempt") == 0 {
		attempt--
	}
	m.sendUpdate(endpoint, attempt, rapid.SampledFrom([]tasker.ResponseStatus{
		tasker.Received, tasker.Running, tasker.Succeeded, tasker.Succeeded, tasker.Succeeded, tasker.Failed,
		tasker.TimedOut, tasker.Rejected, tasker.Interrupted,
	}).Draw(r, "status"))
}

func (m *model) sendUpdate(endpoint string, attempt int, status tasker.ResponseStatus) {
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

func (m *model) pause(r *rapid.T) { m.request(r, m.store.PauseTask) }

func (m *model) resume(r *rapid.T) { m.request(r, m.store.ResumeTask) }

func (m *model) cancel(r *rapid.T) {
	if rapid.IntRange(0, 5).Draw(r, "cancel") == 0 {
		m.request(r, m.store.CancelTask)
	}
}

// retry starts a new attempt, of all endpoints if the task was undone.
func (m *model) retry(r *rapid.T) {
	switch _, err := m.store.RetryTask(m.t.Context(), "ping", m.id, "somebody"); {
	case err == nil:
		m.waves, m.known = 0, map[string]tasker.Response{}
	case !errors.Is(err, store.ErrUnfinished) && !errors.Is(err, store.ErrNothingToRetry) && !errors.Is(err, store.ErrUndoing):
		r.Fatal(err)
	}
}

// request sends a request, which the rollout may refuse in its state.
func (m *model) request(r *rapid.T, f func(ctx context.Context, taskType, ref, by string) (tasker.Task, error)) {
	_, err := f(m.t.Context(), "ping", m.id, "somebody")
	if err != nil && !errors.Is(err, store.ErrRolloutEnded) && !errors.Is(err, store.ErrNotPaused) {
		r.Fatal(err)
	}
}
