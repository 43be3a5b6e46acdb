package store_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// A process that stores orders as claimed gets the same claims as ClaimDue returns, and
// they become due again if it dies.
func TestCreateClaimed(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		for name, n := range map[string]store.NewTask{"a": request("a", "lb-1", "lb-2"), "b": request("b")} {
			n.ReceiveTimeout = 10 * store.ClaimHold
			task, created, claims, err := f.CreateClaimed(t.Context(), n)
			must(t, err)
			if !created || len(claims) != max(1, len(n.Endpoints)) {
				t.Fatalf("%s: created: %t, claims %+v", name, created, claims)
			}
			if commits := f.newCommits(); len(commits) != 1 || commits[0].Due {
				t.Fatalf("%s: commits %+v", name, commits)
			}
			f.claim(t, 0) // they are held
			f.Add(store.ClaimHold)
			again := f.claim(t, len(claims))
			slices.SortFunc(again, func(x, y store.Claim) int { return strings.Compare(x.Endpoint, y.Endpoint) })
			must(t, f.MarkSent(t.Context(), again))
			for i := range again {
				if again[i].Tries--; again[i].Tries != 0 {
					t.Errorf("%s: tried %d times before", name, again[i].Tries)
				}
			}
			if diff := cmp.Diff(claims, again, cmpopts.IgnoreUnexported(store.Claim{})); diff != "" {
				t.Errorf("%s: claims (-created +due):\n%s", name, diff)
			}
			if got, _ := f.task(t, task.ID); got.Status != tasker.TaskSent {
				t.Errorf("%s is %s", name, got.Status)
			}
			f.newCommits()
			_, created, claims, err = f.CreateClaimed(t.Context(), n)
			if err != nil || created || claims != nil {
				t.Errorf("%s again: created: %t, claims %+v, %v", name, created, claims, err)
			}
		}
		late := request("c", "lb-1")
		at := f.Now().Add(time.Second)
		late.NotBefore = &at
		_, _, claims, err := f.CreateClaimed(t.Context(), late)
		must(t, err)
		if commits := f.newCommits(); claims != nil || !commits[0].Due {
			t.Errorf("claims of a task that begins later: %+v, commits %+v", claims, commits)
		}
	})
}

// A reported response was sent: it is not due again, and is written once.
func TestReportedWithoutMarkSent(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		n := request("a", names(9)...)
		n.ReceiveTimeout = time.Hour
		task, _, claims, err := f.CreateClaimed(t.Context(), n)
		must(t, err)
		f.newCommits()
		written := map[string]int{}
		f.Trace(func(query string, _ []any) { written[strings.Join(strings.Fields(query)[:3], " ")]++ })
		for _, c := range claims {
			if a := f.apply(t, update(c.Endpoint, task.ID, 1, 1, tasker.Running)); !slices.Equal(a.Reported, []store.AttemptKey{c.AttemptKey}) {
				t.Errorf("reported %+v, want %+v", a.Reported, c.AttemptKey)
			}
		}
		f.Trace(nil)
		if got, _ := f.task(t, task.ID); got.Counts[tasker.Running] != len(claims) {
			t.Errorf("counts %v", got.Counts)
		}
		f.Add(store.ClaimHold)
		f.claim(t, 0)
		if times := written["INSERT INTO responses"]; times != len(claims) {
			t.Errorf("%d writes of %d responses: %v", times, len(claims), written)
		}
		// Another control plane may have stored the first report.
		if a := f.apply(t, update(claims[0].Endpoint, task.ID, 1, 1, tasker.Running)); len(a.Reported) != 1 || a.Updates["stale"] != 1 {
			t.Errorf("a repeated report: %+v", a)
		}
	})
}

// Concurrent equal requests get the same task.
func TestCreateTaskConcurrently(t *testing.T) {
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
			creators, conflicts, seen := 0, 0, map[string]bool{}
			for i := first; i < callers; i += 4 {
				if failed[i] != nil {
					conflicts++
					continue
				}
				if created[i] {
					creators++
				}
				seen[ids[i]] = true
			}
			want := 0
			if first == 3 {
				want = callers/4 - 1
			}
			if creators != 1 || len(seen) != 1 || conflicts != want {
				t.Errorf("identifier %d: created %d times, %d tasks, %d conflicts, want 1, 1, %d", first, creators, len(seen), conflicts, want)
			}
		}
	})
}
