package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// beat is a heartbeat of an agent that says at which interval it sends them.
func beat(endpoint string, every time.Duration) tasker.Report {
	r := heartbeat(endpoint)
	r.Heartbeat.Heartbeat = tasker.Duration(every)
	return r
}

// A fleet sends no more than 50 heartbeats a second: the larger it is, the rarer,
// and those who were told another interval before are told again.
func TestHeartbeatsGoByTheSizeOfTheFleet(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		const endpoints = 1350
		var reports []tasker.Report
		for i := range endpoints {
			reports = append(reports, hello(fmt.Sprintf("ep-%04d", i), "s"))
		}
		told := f.apply(t, reports...).Orders
		if len(told) != endpoints || told[0].Welcome.Heartbeat.D() != 10*time.Second {
			t.Fatalf("%d welcomes, the first %+v", len(told), told[0].Welcome)
		}
		f.Add(5 * time.Second)
		tests := map[string]struct {
			report tasker.Report
			want   time.Duration // none when zero
		}{
			"welcome":         {hello("ep-0000", "t"), 30 * time.Second},
			"less than half":  {beat("ep-0001", 10*time.Second), 30 * time.Second},
			"about right":     {beat("ep-0002", 20*time.Second), 0},
			"more than twice": {beat("ep-0003", time.Minute), 30 * time.Second},
			"says nothing":    {heartbeat("ep-0004"), 0},
		}
		for name, tt := range tests {
			orders := f.apply(t, tt.report).Orders
			if tt.want == 0 {
				if len(orders) != 0 {
					t.Errorf("%s: told %+v", name, orders[0].Welcome)
				}
				continue
			}
			if len(orders) != 1 || orders[0].Welcome == nil || orders[0].Welcome.Heartbeat.D() != tt.want || orders[0].Endpoint != tt.report.Endpoint {
				t.Errorf("%s: told %+v, want %s", name, orders, tt.want)
				continue
			}
			if tt.report.Hello == nil && orders[0].Welcome.Session != "s" {
				t.Errorf("%s: session %q", name, orders[0].Welcome.Session)
			}
		}
	})
}

// An endpoint is connected, and its work open, for three of its own heartbeats.
func TestSilenceGoesByTheAgentsInterval(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		for name, tt := range map[string]struct{ every, silent time.Duration }{
			"default": {0, 30 * time.Second},
			"shorter": {time.Second, 30 * time.Second}, // it is told 10 s
			"longer":  {time.Minute, 3 * time.Minute},
			"absurd":  {1000 * time.Hour, 3 * time.Hour},
		} {
			f.apply(t, hello(name, "s"), beat(name, tt.every))
			task := f.create(t, request(name, name))
			f.send(t, 1)
			f.apply(t, update(name, task.ID, 1, 1, tasker.Running)) // makes it no shorter
			state := func() (bool, int) {
				e, err := f.Endpoint(t.Context(), name)
				must(t, err)
				ended, _, err := f.ExpireSilent(t.Context(), 20*time.Second, 10)
				must(t, err)
				return e.Connected, ended
			}
			f.Add(tt.silent - time.Second)
			if connected, ended := state(); !connected || ended != 0 {
				t.Errorf("%s: after %s connected: %t, %d ended", name, tt.silent-time.Second, connected, ended)
			}
			f.Add(time.Second)
			if connected, ended := state(); connected || ended != 1 {
				t.Errorf("%s: after %s connected: %t, %d ended", name, tt.silent, connected, ended)
			}
		}
	})
}

// A response says since when its endpoint is silent while that has it and has not ended
// it.
func TestSilentSince(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.apply(t, hello("a", "s"), hello("b", "s"), hello("c", "s"), hello("d", "s"))
		task := f.create(t, request("x", "a", "b", "c", "d"))
		f.send(t, 4)
		f.apply(t, update("a", task.ID, 1, 1, tasker.Running), update("b", task.ID, 1, 1, tasker.Received), update("c", task.ID, 1, 1, tasker.Succeeded))
		silent := func(endpoints ...string) {
			t.Helper()
			open, err := f.OpenResponses(t.Context(), task.ID)
			must(t, err)
			_, all, err := f.TaskWithResponses(t.Context(), "ping", "x")
			must(t, err)
			if len(open) != 2 || len(all) != 4 {
				t.Fatalf("open are %+v", open)
			}
			for _, r := range append(open, all...) {
				if got := r.SilentSince != nil; got != slices.Contains(endpoints, r.Endpoint) {
					t.Errorf("%s is silent since %v; want that %v are", r.Endpoint, r.SilentSince, endpoints)
				}
			}
		}
		silent()
		heard := f.Now()
		f.apply(t, goodbye("b"))
		silent("b")
		f.Add(time.Minute)
		silent("a", "b")
		_, changed, err := f.Changes(t.Context(), task.ID, 0)
		must(t, err)
		if at := changed[0].SilentSince; at == nil || !at.Equal(heard) {
			t.Errorf("a is silent since %v, want %v", at, heard)
		}
		f.apply(t, hello("a", "t", tasker.AssignmentRef{TaskID: task.ID, Attempt: 1}), heartbeat("b"))
		silent()
	})
}
