package store_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

func TestMain(m *testing.M) {
	// The default of rapid is 100; -rapid.checks=1000 searches longer.
	if err := flag.Set("rapid.checks", "30"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// each runs a test with every dialect.
func each(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	t.Parallel()
	for name, options := range storetest.Dialects() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newFixture(t, options(t)))
		})
	}
}

// clock is a clock that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fixture is a store whose clock the test moves.
type fixture struct {
	*store.Store
	*clock
	options store.Options

	mu      sync.Mutex
	commits []store.Commit
}

func types() []tasker.TaskType {
	return []tasker.TaskType{{Name: "ping", Handler: "ping"}, {Name: "update", Handler: tasker.ScriptHandler}}
}

func newFixture(t testing.TB, o store.Options) *fixture {
	t.Helper()
	f := &fixture{clock: &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)}}
	o.Types, o.Heartbeat, o.Clock = types(), 10*time.Second, f.Now
	o.OnCommit = func(c store.Commit) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.commits = append(f.commits, c)
	}
	f.options = o
	f.Store = storetest.Open(t, o)
	return f
}

// Now is the time of the test's clock.
func (f *fixture) Now() time.Time { return f.clock.Now() }

// newCommits returns the commits since the last call.
func (f *fixture) newCommits() []store.Commit {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.commits
	f.commits = nil
	return c
}

func request(identifier string, endpoints ...string) store.NewTask {
	return store.NewTask{
		Identifier: identifier, Type: "ping", Payload: []byte(`{"foo":"bar"}`), Endpoints: endpoints,
		ReceiveTimeout: 30 * time.Second, Timeout: time.Minute,
		Fingerprint: sha256.Sum256([]byte(fmt.Sprint(endpoints))),
	}
}

func (f *fixture) create(t testing.TB, n store.NewTask) tasker.Task {
	t.Helper()
	task, created, err := f.CreateTask(t.Context(), n)
	if err != nil || !created {
		t.Fatalf("CreateTask(%s) = %v, %v; want it created", n.Identifier, created, err)
	}
	return task
}

// task reads a task with its responses by endpoint.
func (f *fixture) task(t testing.TB, id string) (tasker.Task, map[string]tasker.Response) {
	t.Helper()
	task, list, err := f.TaskWithResponses(t.Context(), "ping", id)
	if err != nil {
		t.Fatalf("TaskWithResponses(%s): %v", id, err)
	}
	responses := map[string]tasker.Response{}
	for _, r := range list {
		responses[r.Endpoint] = r
	}
	return task, responses
}

// want checks the task's status and, as "endpoint", "status", … its responses.
func (f *fixture) want(t testing.TB, id string, status tasker.TaskStatus, pairs ...string) map[string]tasker.Response {
	t.Helper()
	task, responses := f.task(t, id)
	if task.Status != status {
		t.Errorf("task is %s, want %s; counts %v", task.Status, status, task.Counts)
	}
	if len(responses) != len(pairs)/2 {
		t.Errorf("task has %d responses, want %d", len(responses), len(pairs)/2)
	}
	counts := tasker.Counts{}
	for _, r := range responses {
		counts.Transition("", r.Status)
	}
	if fmt.Sprint(counts) != fmt.Sprint(task.Counts) {
		t.Errorf("counts are %v, the responses are %v", task.Counts, counts)
	}
	for pair := range slices.Chunk(pairs, 2) {
		if got := responses[pair[0]].Status; got != tasker.ResponseStatus(pair[1]) {
			t.Errorf("response of %s is %s, want %s", pair[0], got, pair[1])
		}
	}
	return responses
}

func (f *fixture) claim(t testing.TB, want int) []store.Claim {
	t.Helper()
	claims, err := f.ClaimDue(t.Context(), 1000)
	if err != nil {
		t.Fatalf("ClaimDue: %v", err)
	}
	if len(claims) != want {
		t.Fatalf("ClaimDue returned %d claims, want %d; the first: %+v", len(claims), want, claims[:min(2, len(claims))])
	}
	return claims
}

// send claims the due orders and marks them as sent.
func (f *fixture) send(t testing.TB, want int) []store.Claim {
	t.Helper()
	claims := f.claim(t, want)
	if err := f.MarkSent(t.Context(), claims); err != nil {
		t.Fatalf("MarkSent: %v", err)
	}
	return claims
}

func (f *fixture) apply(t testing.TB, reports ...tasker.Report) store.ApplyResult {
	t.Helper()
	a, err := f.Apply(t.Context(), reports)
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return a
}

func update(endpoint, task string, attempt int, seq int64, status tasker.ResponseStatus) tasker.Report {
	return tasker.Report{Version: 1, Endpoint: endpoint, Instance: "i", Update: &tasker.Update{
		TaskID: task, Type: "ping", Attempt: attempt, Seq: seq, Status: status,
	}}
}

func hello(endpoint, session string, unfinished ...tasker.AssignmentRef) tasker.Report {
	return tasker.Report{Version: 1, Endpoint: endpoint, Instance: "i", Hello: &tasker.Hello{
		Presence: tasker.Presence{Version: "1", Handlers: []string{"ping"}}, Session: session, Unfinished: unfinished,
	}}
}

func heartbeat(endpoint string) tasker.Report {
	return tasker.Report{Version: 1, Endpoint: endpoint, Instance: "i", Heartbeat: &tasker.Heartbeat{
		Presence: tasker.Presence{Version: "1", Handlers: []string{"ping"}},
	}}
}

func goodbye(endpoint string) tasker.Report {
	return tasker.Report{Version: 1, Endpoint: endpoint, Instance: "i", Goodbye: &tasker.Goodbye{}}
}

// expire ends missing responses and checks their number.
func (f *fixture) expire(t testing.TB, want int) []tasker.Task {
	t.Helper()
	n, finished, err := f.ExpireMissing(t.Context(), time.Time{}, 1000)
	if err != nil || n != want {
		t.Fatalf("ExpireMissing = %d, %v; want %d", n, err, want)
	}
	return finished
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
