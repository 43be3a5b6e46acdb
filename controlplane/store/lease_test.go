package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

func TestLease(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		a, b := store.Lease{Name: "l", Holder: "a"}, store.Lease{Name: "l", Holder: "b"}
		acquire := func(l store.Lease, want error) {
			t.Helper()
			if err := f.AcquireLease(t.Context(), l, 5*time.Second); !errors.Is(err, want) {
				t.Errorf("AcquireLease by %s: %v, want %v", l.Holder, err, want)
			}
		}
		acquire(a, nil)
		acquire(b, store.ErrLease)
		f.Add(4 * time.Second)
		acquire(a, nil)
		f.Add(4 * time.Second)
		acquire(b, store.ErrLease)
		f.Add(time.Second)
		acquire(b, nil)
		must(t, f.ReleaseLease(t.Context(), a)) // a holds none
		acquire(a, store.ErrLease)
		must(t, f.ReleaseLease(t.Context(), b))
		acquire(a, nil)
		task := f.inWaves(t, "x", false, "lb-1")
		for holder, advance := range map[string]func(){"another": func() {}, "expired": func() { f.Add(5 * time.Second) }} {
			advance()
			l := a
			if holder == "another" {
				l = b
			}
			_, err := f.AdvanceRollout(t.Context(), l, task.ID, func(decision.Input) (decision.Step, error) {
				t.Errorf("decide is called for the lease %s", holder)
				return decision.Step{}, nil
			})
			if !errors.Is(err, store.ErrLease) {
				t.Errorf("%s: %v, want ErrLease", holder, err)
			}
		}
	})
}
