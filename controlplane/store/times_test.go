package store_test

import (
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// An agent's clock may be behind or ahead. The stored times lie between the release of
// the order and its report, and the reported duration is kept.
func TestTimesOfSkewedClocks(t *testing.T) {
	for name, test := range map[string]struct {
		skew time.Duration // of the agent's clock
		want time.Duration // when it is stored as received, after the order was created
	}{
		"on time":       {0, 2 * time.Second},
		"behind":        {-3 * time.Second, 0},
		"ahead":         {5 * time.Second, 4 * time.Second},
		"a year ahead":  {365 * 24 * time.Hour, 4 * time.Second},
		"a year behind": {-365 * 24 * time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, f *fixture) {
				task := f.create(t, request("a", "lb-1"))
				f.send(t, 1)
				created := f.Now()
				report := func(seq int64, status tasker.ResponseStatus, after ...time.Duration) tasker.Response {
					u := update("lb-1", task.ID, 1, seq, status)
					times := []**time.Time{&u.Update.ReceivedAt, &u.Update.StartedAt, &u.Update.FinishedAt}
					for i, d := range after {
						at := created.Add(d + test.skew)
						*times[i] = &at
					}
					f.apply(t, u)
					_, responses := f.task(t, task.ID)
					return responses["lb-1"]
				}
				f.Add(4 * time.Second)
				r := report(1, tasker.Running, 2*time.Second, 2*time.Second)
				if got := r.ReceivedAt.Sub(created); got != test.want {
					t.Errorf("received after %v, want %v", got, test.want)
				}
				f.Add(time.Minute)
				r = report(2, tasker.Succeeded, 2*time.Second, 2*time.Second, 12*time.Second)
				if got := r.ReceivedAt.Sub(created); got != test.want {
					t.Errorf("received after %v once it has ended, want %v", got, test.want)
				}
				if took := r.FinishedAt.Sub(*r.StartedAt); took != 10*time.Second {
					t.Errorf("it took %v, want 10s", took)
				}
				if r.SentAt.After(*r.ReceivedAt) {
					t.Errorf("sent at %v, received at %v", r.SentAt, r.ReceivedAt)
				}
			})
		})
	}
}

// The times of a retry begin with the retry, though the task is older.
func TestTimesOfARetry(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1"))
		f.send(t, 1)
		f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Failed))
		f.Add(time.Hour)
		if _, err := f.RetryTask(t.Context(), "ping", "a", "admin"); err != nil {
			t.Fatal(err)
		}
		released := f.Now()
		f.Add(time.Second)
		early := update("lb-1", task.ID, 2, 2, tasker.Running)
		at := released.Add(-time.Millisecond)
		early.Update.ReceivedAt, early.Update.StartedAt = &at, &at
		f.apply(t, early)
		if _, rs := f.task(t, task.ID); !rs["lb-1"].StartedAt.Equal(released) {
			t.Errorf("started at %v, want %v", rs["lb-1"].StartedAt, released)
		}
	})
}
