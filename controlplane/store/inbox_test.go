package store_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
)

func TestApply(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1", "lb-2"))
		f.send(t, 2)
		f.newCommits()
		a := f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Received), update("lb-1", task.ID, 1, 2, tasker.Running))
		if diff := cmp.Diff(map[string]int{"applied": 2}, a.Updates); diff != "" {
			t.Errorf("updates (-want +got):\n%s", diff)
		}
		f.want(t, task.ID, "running", "lb-1", "running", "lb-2", "sent")
		if c := f.newCommits(); len(c) != 1 || len(c[0].Tasks) != 1 || c[0].Due {
			t.Errorf("commits %+v", c)
		}
		at := f.Now()
		code := 3
		done := update("lb-1", task.ID, 1, 3, tasker.Failed)
		done.Update.Error, done.Update.Reason, done.Update.Result = "exit status 3", "out of memory", []byte(`{"x":[1]}`)
		done.Update.ExitCode, done.Update.Progress = &code, &tasker.Progress{Percent: 50, Message: "half"}
		done.Update.ReceivedAt, done.Update.StartedAt, done.Update.FinishedAt = &at, &at, &at
		done.Update.OutputBytes, done.Update.OutputTruncated = 9, true
		a = f.apply(t, done, update("lb-2", task.ID, 1, 7, tasker.Succeeded))
		if len(a.Finished) != 1 || a.Finished[0].Status != "failed" || a.Finished[0].Counts.Total() != 2 {
			t.Errorf("finished: %+v", a.Finished)
		}
		got := f.want(t, task.ID, "failed", "lb-1", "failed", "lb-2", "succeeded")["lb-1"]
		want := tasker.Response{
			TaskID: task.ID, Endpoint: "lb-1", Status: "failed", Attempt: 1, Reason: "out of memory", Error: "exit status 3",
			Result: []byte(`{"x":[1]}`), ExitCode: &code, Progress: &tasker.Progress{Percent: 50, Message: "half"},
			SentAt: &at, ReceivedAt: &at, StartedAt: &at, FinishedAt: &at, OutputBytes: 9, OutputTruncated: true, Seq: 3, Version: 4,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("response (-want +got):\n%s", diff)
		}
		// Repeated, overtaken and foreign updates change nothing.
		before, _ := f.task(t, task.ID)
		f.newCommits()
		a = f.apply(t, done, update("lb-1", task.ID, 1, 9, tasker.Running), update("lb-2", task.ID, 2, 9, tasker.Failed), update("lb-2", task.ID, 1, 9, "nonsense"))
		after, _ := f.task(t, task.ID)
		if diff := cmp.Diff(before, after); diff != "" || a.Updates["stale"] != 4 || len(f.newCommits()) != 0 || len(a.Finished) != 0 {
			t.Errorf("stale updates: %v, finished %d (-before +after):\n%s", a.Updates, len(a.Finished), diff)
		}
		a = f.apply(t,
			update("lb-3", task.ID, 1, 1, tasker.Running), update("lb-1", "no-such-task", 1, 1, tasker.Running),
			update("Not A Name", task.ID, 1, 1, tasker.Running), update(strings.Repeat("x", 500), task.ID, 1, 1, tasker.Running),
			update("lb-1", strings.Repeat("x", 500), 1, 1, tasker.Running))
		if diff := cmp.Diff(map[string]int{"unknown": 5}, a.Updates); diff != "" {
			t.Errorf("unknown updates (-want +got):\n%s", diff)
		}
	})
}

func TestApplyIgnoresOvertakenUpdates(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1"))
		claims := f.claim(t, 1)
		// The report arrives before the broker confirms the order: MarkSent must not overwrite it.
		f.apply(t, update("lb-1", task.ID, 1, 3, tasker.Running), update("lb-1", task.ID, 1, 1, tasker.Received), update("lb-1", task.ID, 1, 2, tasker.Running))
		must(t, f.MarkSent(t.Context(), claims))
		r := f.want(t, task.ID, "running", "lb-1", "running")["lb-1"]
		if r.Seq != 3 {
			t.Errorf("seq %d, want 3", r.Seq)
		}
		f.Add(time.Hour)
		f.claim(t, 0)
		f.expire(t, 0)
	})
}

func TestOutput(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1"))
		report := func(seq int64, status tasker.ResponseStatus, total int64, chunks ...tasker.Chunk) {
			u := update("lb-1", task.ID, 1, seq, status)
			u.Update.Output, u.Update.OutputBytes, u.Update.OutputTruncated = chunks, total, total > 10
			f.apply(t, u)
		}
		chunk := func(offset int64, s string) tasker.Chunk { return tasker.Chunk{Offset: offset, Data: []byte(s)} }
		report(2, tasker.Running, 6, chunk(3, "def"))
		report(1, tasker.Running, 3, chunk(0, "abc"), chunk(-1, "x"), chunk(5, "")) // overtaken; its output is stored all the same
		report(3, tasker.Running, 8, chunk(0, "abc"), chunk(4, "efgh"))             // overlaps
		report(4, tasker.Succeeded, 100, chunk(98, "yz"))
		out, err := f.Output(t.Context(), "ping", "a", "lb-1")
		must(t, err)
		want := []tasker.Chunk{chunk(0, "abc"), chunk(3, "def"), chunk(6, "gh"), chunk(98, "yz")}
		if diff := cmp.Diff(want, out.Chunks); diff != "" || out.Bytes != 100 || !out.Truncated || out.Attempt != 1 {
			t.Errorf("output %+v (-want +got):\n%s", out, diff)
		}
		if _, err := f.Output(t.Context(), "ping", "a", "lb-2"); err == nil {
			t.Error("Output succeeded for an endpoint without a response")
		}
	})
}

func TestHello(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1"))
		f.claim(t, 1)
		f.newCommits()
		a := f.apply(t, hello("lb-1", "s1"))
		want := []tasker.Order{{
			Version: tasker.WireVersion, Endpoint: "lb-1", Expires: f.Now().Add(30 * time.Second),
			Welcome: &tasker.Welcome{Session: "s1", Now: f.Now(), Heartbeat: tasker.Duration(10 * time.Second)},
		}}
		if diff := cmp.Diff(want, a.Orders); diff != "" {
			t.Errorf("orders (-want +got):\n%s", diff)
		}
		if c := f.newCommits(); len(c) != 1 || !c[0].Due || len(c[0].Tasks) != 0 {
			t.Errorf("commits %+v, want one with Due", c)
		}
		f.send(t, 1) // the pending order is due though it is claimed
		f.apply(t, hello("lb-1", "s2"))
		f.send(t, 1) // the order that was sent and not received is due
		f.want(t, task.ID, "sent", "lb-1", "sent")
		f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Received))
		f.apply(t, hello("lb-1", "s3", tasker.AssignmentRef{TaskID: task.ID, Attempt: 1}))
		f.claim(t, 0)
		f.want(t, task.ID, "running", "lb-1", "received")
	})
}

func TestHelloEndsLostAttempts(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		lost := f.create(t, request("lost", "lb-1"))
		kept := f.create(t, request("kept", "lb-1"))
		reported := f.create(t, request("reported", "lb-1"))
		other := f.create(t, request("other", "lb-2"))
		for _, id := range []string{lost.ID, kept.ID, reported.ID} {
			f.apply(t, update("lb-1", id, 1, 1, tasker.Running))
		}
		f.apply(t, update("lb-2", other.ID, 1, 1, tasker.Running))
		a := f.apply(t, hello("lb-1", "s1", tasker.AssignmentRef{TaskID: kept.ID, Attempt: 1}), update("lb-1", reported.ID, 1, 2, tasker.Running))
		r := f.want(t, lost.ID, "failed", "lb-1", "interrupted")["lb-1"]
		if r.Reason != "agent lost it" || !r.Presumed || r.FinishedAt == nil {
			t.Errorf("response %+v", r)
		}
		if len(a.Finished) != 1 || a.Finished[0].ID != lost.ID {
			t.Errorf("finished %+v", a.Finished)
		}
		f.want(t, kept.ID, "running", "lb-1", "running")
		f.want(t, reported.ID, "running", "lb-1", "running")
		f.want(t, other.ID, "running", "lb-2", "running")
		// A hello that is repeated within its session may be older than the last assignment.
		f.apply(t, hello("lb-1", "s1"))
		f.want(t, kept.ID, "running", "lb-1", "running")
		f.apply(t, hello("lb-1", "s2"))
		f.want(t, kept.ID, "failed", "lb-1", "interrupted")
	})
}

func TestEndpointsList(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		start := f.Now()
		f.apply(t, hello("lb-2", "s"), hello("lb-1", "s"), goodbye("lb-3"))
		f.Add(5 * time.Second)
		beat := heartbeat("lb-1")
		beat.Heartbeat.Labels, beat.Heartbeat.Running = map[string]string{"role": "lb"}, 2
		beat.Heartbeat.Handlers, beat.Heartbeat.Scripts = []string{"ping", "script"}, []string{"update"}
		f.apply(t, beat, goodbye("lb-2"))
		got, err := f.Endpoints(t.Context(), 2, "")
		must(t, err)
		presence := beat.Heartbeat.Presence
		presence.Labels = nil
		labels := map[string]string{"role": "lb"}
		want := []tasker.Endpoint{
			{
				Name: "lb-1", Instance: "i", Connected: true, FirstSeen: start, LastSeen: f.Now(), Types: []string{"ping", "update"},
				Labels: labels, ClaimedLabels: labels, Presence: presence,
			},
			{Name: "lb-2", Instance: "i", Connected: false, FirstSeen: start, LastSeen: f.Now(), Types: []string{"ping"}, Presence: hello("x", "").Hello.Presence},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("endpoints (-want +got):\n%s", diff)
		}
		got, err = f.Endpoints(t.Context(), 2, "lb-2")
		must(t, err)
		if len(got) != 1 || got[0].Name != "lb-3" {
			t.Errorf("next page %+v", got)
		}
		stats, err := f.Stats(t.Context())
		must(t, err)
		if stats.Connected != 1 {
			t.Errorf("%d connected, want 1", stats.Connected)
		}
		f.Add(30 * time.Second)
		one, err := f.Endpoint(t.Context(), "lb-1")
		must(t, err)
		if one.Connected {
			t.Error("the endpoint is connected after three silent intervals")
		}
		if _, err := f.Endpoint(t.Context(), "nobody"); err == nil {
			t.Error("Endpoint succeeded for an unknown endpoint")
		}
	})
}

// Concurrent batches that change the same rows in any order are all stored.
func TestApplyConcurrently(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		names := []string{"lb-1", "lb-2", "lb-3", "lb-4", "lb-5"}
		var ids []string
		for _, name := range []string{"a", "b", "c", "d"} {
			ids = append(ids, f.create(t, request(name, names...)).ID)
		}
		var wg sync.WaitGroup
		for worker := range names {
			wg.Go(func() {
				for seq := range int64(10) {
					var batch []tasker.Report
					for i := range ids {
						id := ids[(i+worker)%len(ids)]
						batch = append(batch, update(names[worker], id, 1, seq+1, tasker.Running))
					}
					if _, err := f.Apply(t.Context(), append(batch, heartbeat(names[(worker+1)%len(names)]))); err != nil {
						t.Errorf("Apply: %v", err)
					}
					claims, err := f.ClaimDue(t.Context(), 3)
					if err == nil {
						err = f.MarkSent(t.Context(), claims)
					}
					if err != nil {
						t.Errorf("claim: %v", err)
					}
				}
			})
		}
		wg.Wait()
		for _, id := range ids {
			for _, r := range f.want(t, id, "running", "lb-1", "running", "lb-2", "running", "lb-3", "running", "lb-4", "running", "lb-5", "running") {
				if r.Seq != 10 {
					t.Errorf("%s has sequence %d, want 10", r.Endpoint, r.Seq)
				}
			}
		}
	})
}

func TestChanges(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1", "lb-2", "lb-3"))
		f.send(t, 3)
		f.apply(t, update("lb-2", task.ID, 1, 1, tasker.Running))
		for since, want := range map[int64][]string{0: {"lb-1", "lb-2", "lb-3"}, 1: {"lb-1", "lb-2", "lb-3"}, 2: {"lb-2"}, 3: nil} {
			got, rows, err := f.Changes(t.Context(), task.ID, since)
			must(t, err)
			var names []string
			for _, r := range rows {
				names = append(names, r.Endpoint)
			}
			if diff := cmp.Diff(want, names); diff != "" || got.Version != 3 {
				t.Errorf("since %d: version %d (-want +got):\n%s", since, got.Version, diff)
			}
		}
		f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Running))
		_, rows, err := f.Changes(t.Context(), task.ID, 3)
		must(t, err)
		if len(rows) != 1 || rows[0].Endpoint != "lb-1" || rows[0].Version != 4 {
			t.Errorf("since 3: %+v, want lb-1 at version 4", rows)
		}
		if _, _, err := f.Changes(t.Context(), "nothing", 0); err == nil {
			t.Error("Changes succeeded for an unknown task")
		}
	})
}
