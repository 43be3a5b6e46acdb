package store_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

// sending opens the fixture's database as a process that sends new orders itself,
// and whose marks wait for reports.
func (f *fixture) sending(t *testing.T, patience time.Duration) *fixture {
	t.Helper()
	s := &fixture{clock: f.clock}
	o := f.options
	o.Sends = func(orders int) bool { return orders < 10 }
	o.MarkPatience = patience
	o.OnCommit = func(c store.Commit) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.commits = append(s.commits, c)
	}
	s.Store = storetest.Open(t, o)
	return s
}

// toldLast is the last commit that was told.
func (f *fixture) toldLast() store.Commit {
	all := f.told()
	return all[len(all)-1]
}

// Whoever sends what it has stored gets the same claims as by looking for them,
// and they are due again if it dies.
func TestCreatedAsClaimed(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		s := f.sending(t, time.Hour)
		for name, n := range map[string]store.NewTask{"a": request("a", "lb-1", "lb-2"), "b": request("b")} {
			n.ReceiveTimeout = 10 * store.ClaimHold
			task := s.create(t, n)
			told := s.told()
			if len(told) != 1 || told[0].Due || len(told[0].Claims) != max(1, len(n.Endpoints)) {
				t.Fatalf("%s: told %+v", name, told)
			}
			f.claim(t, 0) // they are held
			f.Add(store.ClaimHold)
			again := f.claim(t, len(told[0].Claims))
			slices.SortFunc(again, func(x, y store.Claim) int { return strings.Compare(x.Endpoint, y.Endpoint) })
			must(t, f.MarkSent(t.Context(), again))
			for i := range again {
				if again[i].Tries--; again[i].Tries != 0 {
					t.Errorf("%s: tried %d times before", name, again[i].Tries)
				}
			}
			if diff := cmp.Diff(told[0].Claims, again, cmpopts.IgnoreUnexported(store.Claim{})); diff != "" {
				t.Errorf("%s: claims (-told +found):\n%s", name, diff)
			}
			if got, _ := f.task(t, task.ID); got.Status != tasker.TaskSent {
				t.Errorf("%s is %s", name, got.Status)
			}
		}
		s.create(t, request("c", names(10)...)) // too many for it
		if told := s.told(); !told[0].Due || told[0].Claims != nil {
			t.Errorf("told %+v", told)
		}
		f.claim(t, 10)
	})
}

// watched is a context that says when somebody waits for its end.
type watched struct {
	context.Context
	once  sync.Once
	waits chan struct{}
}

func (w *watched) Done() <-chan struct{} {
	w.once.Do(func() { close(w.waits) })
	return w.Context.Done()
}

// What is reported on, before it is marked as sent or in the time after, is
// written once.
func TestReportedIsNotMarked(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		s := f.sending(t, time.Hour)
		n := request("a", names(9)...)
		n.ReceiveTimeout = 100 * time.Hour // far beyond what a mark waits for
		task := s.create(t, n)
		claims := s.told()[0].Claims
		var mu sync.Mutex
		written := map[string]int{}
		s.Trace(func(query string, _ []any) {
			mu.Lock()
			defer mu.Unlock()
			written[strings.Join(strings.Fields(query)[:3], " ")]++
		})
		for i, c := range claims {
			if i == 0 {
				s.apply(t, update(c.Endpoint, task.ID, 1, 1, tasker.Running))
				must(t, s.MarkSent(t.Context(), claims[:1]))
				continue
			}
			marked := make(chan error, 1)
			ctx := &watched{Context: t.Context(), waits: make(chan struct{})}
			go func() { marked <- s.MarkSent(ctx, claims[i:i+1]) }()
			<-ctx.waits
			s.apply(t, update(c.Endpoint, task.ID, 1, 1, tasker.Running))
			must(t, <-marked)
		}
		s.Trace(nil)
		if got, _ := s.task(t, task.ID); got.Counts[tasker.Running] != len(claims) {
			t.Errorf("counts %v", got.Counts)
		}
		f.Add(store.ClaimHold)
		f.claim(t, 0)
		if times := written["INSERT INTO responses"]; times != len(claims) {
			t.Errorf("%d writes of %d responses: %v", times, len(claims), written)
		}
	})
}

// What is not reported on is marked in the end, and what no report can speak of,
// or not in time, at once.
func TestMarkedWithoutReport(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		brief := f.sending(t, time.Millisecond)
		task := brief.create(t, request("a", "lb-1"))
		must(t, brief.MarkSent(t.Context(), brief.toldLast().Claims))
		if got := brief.want(t, task.ID, "sent", "lb-1", "sent"); got["lb-1"].SentAt == nil {
			t.Error("no time of sending")
		}

		s := f.sending(t, time.Hour)
		soon := request("b", "lb-1")
		soon.ReceiveTimeout = time.Minute
		task = s.create(t, soon)
		must(t, s.MarkSent(t.Context(), s.toldLast().Claims))
		s.want(t, task.ID, "sent", "lb-1", "sent")
		task = s.create(t, request("c"))
		must(t, s.MarkSent(t.Context(), s.toldLast().Claims))
		if got, _ := s.task(t, task.ID); got.Status != tasker.TaskSent {
			t.Errorf("a broadcast is %s", got.Status)
		}
		f.Add(store.ClaimHold)
		f.claim(t, 0)
	})
}

// Those who ask for the same at the same time get the same task.
func TestCreatedTogether(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		const callers = 40
		var wg sync.WaitGroup
		ids, created, failed := make([]string, callers), make([]bool, callers), make([]error, callers)
		for i := range callers {
			n := request(string(rune('a'+i%4)), "lb-1")
			if i%4 == 3 {
				n.Fingerprint[0] += byte(i) // all of this identifier differ
			}
			wg.Go(func() {
				var task tasker.Task
				task, created[i], failed[i] = f.CreateTask(t.Context(), n)
				ids[i] = task.ID
			})
		}
		wg.Wait()
		for first := range 4 {
			makers, conflicts, seen := 0, 0, map[string]bool{}
			for i := first; i < callers; i += 4 {
				if failed[i] != nil {
					conflicts++
					continue
				}
				if created[i] {
					makers++
				}
				seen[ids[i]] = true
			}
			want := 0
			if first == 3 {
				want = callers/4 - 1
			}
			if makers != 1 || len(seen) != 1 || conflicts != want {
				t.Errorf("identifier %d: made %d times, %d tasks, %d conflicts, want 1, 1, %d", first, makers, len(seen), conflicts, want)
			}
		}
	})
}
