package store_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

// After any sequence of operations: counts and status match the responses, versions only
// grow, and a response that an agent has ended does not change.
func TestModel(t *testing.T) {
	t.Parallel()
	for name, options := range storetest.Dialects() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, options(t))
			rapid.Check(t, func(r *rapid.T) {
				must(t, f.Clear(t.Context()))
				m := &model{f: f, t: t, tasks: map[string]*modelTask{}}
				r.Repeat(map[string]func(*rapid.T){
					"create": m.create, "claim": m.claim, "deliver": m.deliver, "report": m.report, "hello": m.hello,
					"cancel": m.cancel, "retry": m.retry, "wait": m.wait, "expire": m.expire, "": m.checkSometimes,
				})
				m.check(r)
			})
		})
	}
}

// model is the state of the store as the test expects it.
type model struct {
	f      *fixture
	t      *testing.T
	ids    []string
	tasks  map[string]*modelTask
	claims []store.Claim
	seq    int64
	steps  int
}

type modelTask struct {
	task      tasker.Task
	responses map[string]tasker.Response
	attempt   int
	// sent: the order of the broadcast was sent.
	sent bool
	// retried: a new attempt has begun since the last check.
	retried bool
}

func (m *model) names() []string { return []string{"lb-1", "lb-2", "lb-3"} }

func (m *model) create(r *rapid.T) {
	n := request(fmt.Sprintf("t-%d", len(m.ids)), m.names()[:rapid.IntRange(1, 3).Draw(r, "endpoints")]...)
	if rapid.IntRange(0, 3).Draw(r, "broadcast") == 0 {
		n.Endpoints = nil
	}
	task := m.f.create(m.t, n)
	m.ids = append(m.ids, task.ID)
	m.tasks[task.ID] = &modelTask{task: task, responses: map[string]tasker.Response{}, attempt: 1}
}

func (m *model) claim(r *rapid.T) {
	claims, err := m.f.ClaimDue(m.t.Context(), rapid.IntRange(1, 5).Draw(r, "limit"))
	must(m.t, err)
	for _, c := range claims {
		switch {
		case (c.Order.Assignment != nil) == (c.Order.Cancel != nil):
			r.Fatalf("claim %+v is not one order", c)
		case c.Order.Assignment != nil && !c.Order.Expires.After(m.f.Now()):
			r.Fatalf("claim %+v is past its deadline", c)
		}
	}
	m.claims = append(m.claims, claims...)
}

// deliver marks one of the claims as sent or unsent, perhaps long after it was claimed.
func (m *model) deliver(r *rapid.T) {
	if len(m.claims) == 0 {
		r.Skip("no claim")
	}
	i := rapid.IntRange(0, len(m.claims)-1).Draw(r, "claim")
	c := m.claims[i]
	m.claims = append(m.claims[:i], m.claims[i+1:]...)
	if !rapid.Bool().Draw(r, "sent") {
		must(m.t, m.f.MarkUnsent(m.t.Context(), []store.Unsent{{Claim: c, Reason: "unroutable", After: time.Second}}))
		return
	}
	must(m.t, m.f.MarkSent(m.t.Context(), []store.Claim{c}))
	if k := m.tasks[c.TaskID]; c.Endpoint == "" && !c.Cancel && c.Attempt == k.attempt {
		k.sent = true
	}
}

func (m *model) pick(r *rapid.T) string {
	if len(m.ids) == 0 {
		r.Skip("no task")
	}
	return rapid.SampledFrom(m.ids).Draw(r, "task")
}

func (m *model) report(r *rapid.T) {
	var batch []tasker.Report
	for range rapid.IntRange(1, 4).Draw(r, "batch") {
		id := m.pick(r)
		m.seq++
		seq := max(1, m.seq-int64(rapid.IntRange(0, 3).Draw(r, "older")))
		status := rapid.SampledFrom([]tasker.ResponseStatus{
			tasker.Received, tasker.Running, tasker.Running, tasker.Succeeded, tasker.Failed, tasker.Cancelled, tasker.Missing,
		}).Draw(r, "status")
		attempt := m.tasks[id].attempt + rapid.SampledFrom([]int{0, 0, 0, 0, -1, 1}).Draw(r, "attempt")
		batch = append(batch, update(rapid.SampledFrom(m.names()).Draw(r, "endpoint"), id, attempt, seq, status))
	}
	a := m.f.apply(m.t, batch...)
	total := 0
	for _, n := range a.Updates {
		total += n
	}
	if total != len(batch) {
		r.Fatalf("%v is not the outcome of %d updates", a.Updates, len(batch))
	}
}

func (m *model) hello(r *rapid.T) {
	name := rapid.SampledFrom(m.names()).Draw(r, "endpoint")
	m.seq++
	var unfinished []tasker.AssignmentRef
	for _, id := range m.ids {
		if rapid.IntRange(0, 3).Draw(r, "lost") > 0 {
			unfinished = append(unfinished, tasker.AssignmentRef{TaskID: id, Attempt: m.tasks[id].attempt})
		}
	}
	a := m.f.apply(m.t, hello(name, fmt.Sprint(m.seq), unfinished...))
	if len(a.Orders) == 0 || a.Orders[0].Welcome == nil {
		r.Fatalf("no welcome in %+v", a.Orders)
	}
}

func (m *model) cancel(r *rapid.T) {
	_, err := m.f.CancelTask(m.t.Context(), "ping", m.pick(r), "somebody")
	must(m.t, err)
}

func (m *model) retry(r *rapid.T) {
	id := m.pick(r)
	if _, err := m.f.RetryTask(m.t.Context(), "ping", id, "somebody"); err == nil {
		k := m.tasks[id]
		k.attempt, k.sent, k.retried = k.attempt+1, false, true
	}
}

func (m *model) wait(r *rapid.T) {
	m.f.Add(time.Duration(rapid.IntRange(1, 40).Draw(r, "seconds")) * time.Second)
}

func (m *model) expire(r *rapid.T) {
	_, _, err := m.f.ExpireMissing(m.t.Context(), time.Time{}, rapid.IntRange(1, 5).Draw(r, "limit"))
	must(m.t, err)
	_, _, err = m.f.ExpireSilent(m.t.Context(), 2*time.Minute, 5)
	must(m.t, err)
}

// checkSometimes checks after every third step: the invariants hold for one step and for
// three.
func (m *model) checkSometimes(r *rapid.T) {
	if m.steps++; m.steps%3 == 0 {
		m.check(r)
	}
}

func (m *model) check(r *rapid.T) {
	for _, id := range m.ids {
		k := m.tasks[id]
		task, responses := m.f.task(m.t, id)
		counts := tasker.Counts{}
		for _, now := range responses {
			counts.Transition("", now.Status)
			was, before := k.responses[now.Endpoint]
			if !before || k.retried && was.Status != tasker.Succeeded {
				continue
			}
			m.checkResponse(r, k.task.Version, was, now)
		}
		if fmt.Sprint(counts) != fmt.Sprint(task.Counts) {
			r.Fatalf("counts of %s are %v, its responses are %v", id, task.Counts, counts)
		}
		// The model does not know whether a broadcast is open: ExpireMissing closes it.
		open := task.Broadcast() && task.FinishedAt == nil && counts.Ended() == counts.Total()
		flags := tasker.Flags{Cancel: task.CancelRequestedAt != nil, Sent: k.sent, Open: open}
		if want := counts.TaskStatus(flags); task.Status != want && (!task.Broadcast() || task.FinishedAt != nil) {
			r.Fatalf("task %s is %s, want %s by %v %+v", id, task.Status, want, counts, flags)
		}
		if (task.FinishedAt != nil) != counts.Finished(flags) {
			r.Fatalf("task %s is %s, finished at %v, counts %v", id, task.Status, task.FinishedAt, counts)
		}
		if task.Version < k.task.Version {
			r.Fatalf("version of %s fell from %d to %d", id, k.task.Version, task.Version)
		}
		k.task, k.responses, k.retried = task, responses, false
	}
}

// checkResponse compares a response with its state at an earlier check, at which the
// task had the version seen.
func (m *model) checkResponse(r *rapid.T, seen int64, was, now tasker.Response) {
	changed := was.Status != now.Status || was.Reason != now.Reason || was.Seq != now.Seq || was.Presumed != now.Presumed
	switch {
	case now.Version < was.Version || changed && now.Version <= seen:
		r.Fatalf("%+v became %+v without a version above %d", was, now, seen)
	case was.Status.Ended() && !was.Presumed && changed:
		r.Fatalf("%+v had ended and became %+v", was, now)
	case !was.Presumed && !now.Late && now.Status.Rank() < was.Status.Rank():
		// A late response may have been presumed to have ended since the last check.
		r.Fatalf("%+v fell to %+v", was, now)
	case now.Seq < was.Seq:
		r.Fatalf("sequence fell: %+v became %+v", was, now)
	}
}
