package store_test

import (
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// nextSend returns the earliest time at which the order of a response is due.
func (f *fixture) nextSend(t testing.TB) sql.NullInt64 {
	t.Helper()
	var next sql.NullInt64
	must(t, f.DB().QueryRowContext(t.Context(), "SELECT MIN(next_send_at) FROM responses").Scan(&next))
	return next
}

func TestClaimDue(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1"))
		got := f.claim(t, 1)
		want := []store.Claim{{
			Order: tasker.Order{
				Version: tasker.WireVersion, Endpoint: "lb-1", Type: "ping", Expires: task.ReceiveDeadline,
				Assignment: &tasker.Assignment{
					TaskID: task.ID, Identifier: "a", Attempt: 1, Handler: "ping", Payload: []byte(`{"foo":"bar"}`),
					Timeout: tasker.Duration(time.Minute), Deadline: task.ReceiveDeadline,
				},
			},
			AttemptKey: store.AttemptKey{TaskID: task.ID, Endpoint: "lb-1", Attempt: 1},
		}}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(store.Claim{})); diff != "" {
			t.Errorf("claim (-want +got):\n%s", diff)
		}
		f.claim(t, 0) // it is held
		if next, want := f.nextSend(t), f.Now().Add(store.ClaimHold).UnixMicro(); next.Int64 != want {
			t.Errorf("next send at %v, want %v", next, want)
		}
		must(t, f.MarkSent(t.Context(), got))
		r := f.want(t, task.ID, "sent", "lb-1", "sent")["lb-1"]
		if r.SentAt == nil || !r.SentAt.Equal(f.Now()) || r.Version != 2 {
			t.Errorf("sent at %v, version %d", r.SentAt, r.Version)
		}
		if next := f.nextSend(t); next.Valid {
			t.Errorf("next send at %v, want none", next)
		}
		f.Add(store.ClaimHold)
		f.claim(t, 0)
	})
}

// If the holder of a claim dies, the order becomes due again until its deadline.
func TestClaimsExpire(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		n := request("a", "lb-1")
		n.ReceiveTimeout = 2*store.ClaimHold + time.Second
		f.create(t, n)
		for tries := range 3 {
			if c := f.claim(t, 1); c[0].Tries != tries {
				t.Errorf("tries = %d, want %d", c[0].Tries, tries)
			}
			f.Add(store.ClaimHold)
		}
		f.claim(t, 0)
		stats, err := f.Stats(t.Context())
		must(t, err)
		if stats.Due != 0 {
			t.Errorf("%d orders are due after the deadline, want none", stats.Due)
		}
	})
}

// A control plane that starts releases the claims of one that died, of assignments and of
// cancels. Tasks that begin later stay as they are.
func TestReleaseClaims(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		later := request("later", "lb-1")
		at := f.Now().Add(store.ClaimHold / 2)
		later.NotBefore = &at
		f.create(t, later)
		f.create(t, request("a", "lb-1"))
		f.create(t, request("all"))
		f.create(t, request("cancelled", "lb-1"))
		f.claim(t, 3)
		_, err := f.CancelTask(t.Context(), "ping", "cancelled", "")
		must(t, err)
		f.claim(t, 1)
		f.claim(t, 0)
		f.newCommits()
		must(t, f.ReleaseClaims(t.Context()))
		if commits := f.newCommits(); len(commits) != 1 || !commits[0].Due {
			t.Errorf("commits %+v", commits)
		}
		again := f.claim(t, 3)
		if !again[0].Cancel || again[1].Tries != 1 {
			t.Errorf("claimed %+v", again)
		}
		must(t, f.MarkSent(t.Context(), again))
		must(t, f.ReleaseClaims(t.Context()))
		f.claim(t, 0)
	})
}

func TestMarkUnsent(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1"))
		claims := f.claim(t, 1)
		f.newCommits()
		must(t, f.MarkUnsent(t.Context(), []store.Unsent{{Claim: claims[0], Reason: "unroutable", After: 5 * time.Second}}))
		if r := f.want(t, task.ID, "pending", "lb-1", "pending")["lb-1"]; r.Reason != "unroutable" || r.Version != 2 {
			t.Errorf("reason %q, version %d", r.Reason, r.Version)
		}
		if n := len(f.newCommits()); n != 1 {
			t.Errorf("OnCommit was called %d times, want once", n)
		}
		f.claim(t, 0)
		f.Add(5 * time.Second)
		claims = f.claim(t, 1)
		f.newCommits()
		must(t, f.MarkUnsent(t.Context(), []store.Unsent{{Claim: claims[0], Reason: "unroutable", After: time.Second}}))
		if c := f.newCommits(); len(c) != 0 {
			t.Errorf("commits for the same reason: %v", c)
		}
		f.Add(time.Second)
		f.send(t, 1)
		if r := f.want(t, task.ID, "sent", "lb-1", "sent")["lb-1"]; r.Reason != "" {
			t.Errorf("reason %q after it was sent", r.Reason)
		}
		// A claim of an earlier attempt has no effect on a newer one.
		f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Failed))
		_, err := f.RetryTask(t.Context(), "ping", "a", "")
		must(t, err)
		must(t, f.MarkSent(t.Context(), claims))
		f.want(t, task.ID, "pending", "lb-1", "pending")
	})
}

// An order that became due again while it was claimed stays due.
func TestHelloDuringClaim(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.create(t, request("a", "lb-1"))
		f.create(t, request("b", "lb-1"))
		claims := f.claim(t, 2)
		f.Add(time.Second)
		f.apply(t, hello("lb-1", "s1"))
		must(t, f.MarkSent(t.Context(), claims[:1]))
		must(t, f.MarkUnsent(t.Context(), []store.Unsent{{Claim: claims[1], Reason: "x", After: time.Hour}}))
		f.claim(t, 2)
	})
}

func TestClaimsDoNotOverlap(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		const tasks = 60
		for i := range tasks {
			f.create(t, request(string(rune('a'+i)), "lb-1", "lb-2"))
		}
		var mu sync.Mutex
		seen := map[string]int{}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					claims, err := f.ClaimDue(t.Context(), 7)
					if err != nil {
						t.Errorf("ClaimDue: %v", err)
						return
					}
					if len(claims) == 0 {
						// Rows that another claim has locked are skipped: an empty claim is
						// the end only if no row is due.
						if next := f.nextSend(t); !next.Valid || next.Int64 > f.Now().UnixMicro() {
							return
						}
						continue
					}
					mu.Lock()
					for _, c := range claims {
						seen[c.TaskID+c.Endpoint]++
					}
					mu.Unlock()
					if err := f.MarkSent(t.Context(), claims); err != nil {
						t.Errorf("MarkSent: %v", err)
					}
				}
			})
		}
		wg.Wait()
		if len(seen) != 2*tasks {
			t.Errorf("%d rows were claimed, want %d", len(seen), 2*tasks)
		}
		for k, n := range seen {
			if n != 1 {
				t.Errorf("%s was claimed %d times", k, n)
			}
		}
	})
}

// One claim holds a bounded number of large payloads; the other orders stay due.
func TestClaimOfLargePayloads(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		payload := make([]byte, tasker.MaxPayload)
		for i := range payload {
			payload[i] = '1'
		}
		const tasks = 60
		for i := range tasks {
			n := request(string(rune('a'+i)), "lb-1")
			n.Payload = payload
			f.create(t, n)
		}
		claims, err := f.ClaimDue(t.Context(), 1000)
		must(t, err)
		if len(claims) == 0 || len(claims) == tasks {
			t.Fatalf("%d claims, want some of %d", len(claims), tasks)
		}
		first := len(claims)
		for _, c := range claims {
			if len(c.Order.Assignment.Payload) != tasker.MaxPayload {
				t.Fatalf("a payload of %d bytes", len(c.Order.Assignment.Payload))
			}
		}
		f.claim(t, tasks-first)
	})
}

func TestClaimOfUnconfiguredType(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		n := request("a", "lb-1")
		n.Type = "gone"
		f.create(t, n)
		if c := f.claim(t, 1); c[0].Order.Assignment.Handler != tasker.ScriptHandler {
			t.Errorf("handler %q", c[0].Order.Assignment.Handler)
		}
	})
}

// After a repeated hello of the same session, only orders that were sent long ago are sent
// again. After the hello of a new session, all unreceived orders are.
func TestRepeatedHello(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.apply(t, hello("lb-1", "s1"))
		n := request("a", "lb-1")
		n.ReceiveTimeout = time.Hour
		f.create(t, n)
		f.send(t, 1)
		f.apply(t, hello("lb-1", "s1"))
		f.claim(t, 0)
		f.apply(t, hello("lb-1", "s2"))
		f.send(t, 1)
		f.Add(store.ClaimHold)
		f.apply(t, hello("lb-1", "s2"))
		f.send(t, 1)
	})
}
