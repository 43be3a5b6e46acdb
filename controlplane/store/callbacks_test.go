package store_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

// A stored callback is delivered or given up, also by another process than the one that
// stored it.
func TestCallbackIsClaimedUntilRecorded(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, withCallback("x", tasker.CallbackEvents(), "a"))
		f.apply(t, update("a", task.ID, 1, 1, tasker.Succeeded))
		other := storetest.Open(t, f.options) // another process
		delivery := func(status tasker.DeliveryStatus, attempts int, last string) tasker.Delivery {
			t.Helper()
			list, err := f.Deliveries(t.Context(), task.ID)
			must(t, err)
			if len(list) != 1 || list[0].Status != status || list[0].Attempts != attempts || list[0].LastError != last {
				t.Fatalf("deliveries %+v, want one with status %s, %d attempts and error %q", list, status, attempts, last)
			}
			return list[0]
		}
		waiting := func(want int) {
			t.Helper()
			if s, err := f.Stats(t.Context()); err != nil || s.Callbacks != want {
				t.Errorf("%d callbacks wait, want %d; %v", s.Callbacks, want, err)
			}
		}
		delivery(tasker.DeliveryWaiting, 0, "")
		first := claimCalls(t, other, 1)[0]
		claimCalls(t, f.Store, 0)
		f.Add(store.CallbackHold)
		second := claimCalls(t, f.Store, 1)[0]
		if second.ID != first.ID || second.Attempt != 2 || string(second.Data) != string(first.Data) {
			t.Errorf("the second claim is %+v, the first one was %+v", second, first)
		}
		must(t, other.RecordCall(t.Context(), store.CallResult{Call: first, Error: "too late"}))
		delivery(tasker.DeliveryWaiting, 2, "")
		waiting(1)

		after := 5 * time.Second
		must(t, f.RecordCall(t.Context(), store.CallResult{Call: second, Error: "503", RetryAfter: &after}))
		if d := delivery(tasker.DeliveryWaiting, 2, "503"); !d.NextAttemptAt.Equal(f.Now().Add(after).Truncate(time.Microsecond)) {
			t.Errorf("the next attempt is at %v", d.NextAttemptAt)
		}
		claimCalls(t, f.Store, 0)
		f.Add(after)
		must(t, f.RecordCall(t.Context(), store.CallResult{Call: claimCalls(t, f.Store, 1)[0]}))
		if d := delivery(tasker.DeliveryDelivered, 3, "503"); d.DeliveredAt == nil || d.NextAttemptAt != nil {
			t.Errorf("the delivered callback is %+v", d)
		}
		waiting(0)

		_, err := f.RetryTask(t.Context(), "ping", "x", "")
		if err == nil {
			t.Fatal("RetryTask succeeded for a succeeded task")
		}
		gone := f.create(t, withCallback("y", tasker.CallbackEvents(), "a"))
		f.apply(t, update("a", gone.ID, 1, 1, tasker.Failed))
		must(t, f.RecordCall(t.Context(), store.CallResult{Call: claimCalls(t, f.Store, 1)[0], Error: "410"}))
		f.Add(24 * time.Hour)
		claimCalls(t, f.Store, 0)
		if list, err := f.Deliveries(t.Context(), gone.ID); err != nil || len(list) != 1 || list[0].Status != tasker.DeliveryGivenUp {
			t.Errorf("the callback that was given up is %+v, %v", list, err)
		}
	})
}

// Several control planes do not claim the same callback.
func TestCallbacksAreClaimedOnce(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		const tasks = 40
		for i := range tasks {
			task := f.create(t, withCallback(string(rune('A'+i)), tasker.CallbackEvents(), "a"))
			f.apply(t, update("a", task.ID, 1, 1, tasker.Succeeded))
		}
		other := storetest.Open(t, f.options)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var mu sync.Mutex
		seen := map[string]int{}
		var wg sync.WaitGroup
		for i := range 4 {
			s := []*store.Store{f.Store, other}[i%2]
			wg.Go(func() {
				// Callbacks that another claim has locked are skipped: an empty claim is not the end.
				for claimed := 0; claimed < tasks; {
					calls, err := s.ClaimCalls(ctx, 3)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, c := range calls {
						seen[c.ID]++
					}
					claimed = len(seen)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(seen) != tasks {
			t.Errorf("%d calls were claimed, want %d", len(seen), tasks)
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("%s was claimed %d times", id, n)
			}
		}
	})
}
