package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// heartbeatEvery is a heartbeat of an agent that reports its interval.
func heartbeatEvery(endpoint string, interval time.Duration) tasker.Report {
	r := heartbeat(endpoint)
	r.Heartbeat.Heartbeat = tasker.Duration(interval)
	return r
}

// A fleet sends at most 50 heartbeats a second: the interval grows with the fleet, and
// agents with an unsuitable interval receive a new one.
func TestHeartbeatIntervalGrowsWithTheFleet(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		const endpoints = 1350
		var reports []tasker.Report
		for i := range endpoints {
			reports = append(reports, hello(fmt.Sprintf("ep-%04d", i), "s"))
		}
		welcomes := f.apply(t, reports...).Orders
		if len(welcomes) != endpoints || welcomes[0].Welcome.Heartbeat.D() != 10*time.Second {
			t.Fatalf("%d welcomes, the first %+v", len(welcomes), welcomes[0].Welcome)
		}
		f.Add(5 * time.Second)
		tests := map[string]struct {
			report tasker.Report
			want   time.Duration // none when zero
		}{
			"welcome":         {hello("ep-0000", "t"), 30 * time.Second},
			"less than half":  {heartbeatEvery("ep-0001", 10*time.Second), 30 * time.Second},
			"about right":     {heartbeatEvery("ep-0002", 20*time.Second), 0},
			"more than twice": {heartbeatEvery("ep-0003", time.Minute), 30 * time.Second},
			"no interval":     {heartbeat("ep-0004"), 0},
		}
		for name, tt := range tests {
			orders := f.apply(t, tt.report).Orders
			if tt.want == 0 {
				if len(orders) != 0 {
					t.Errorf("%s: received %+v", name, orders[0].Welcome)
				}
				continue
			}
			if len(orders) != 1 || orders[0].Welcome == nil || orders[0].Welcome.Heartbeat.D() != tt.want || orders[0].Endpoint != tt.report.Endpoint {
				t.Errorf("%s: received %+v, want %s", name, orders, tt.want)
				continue
			}
			if tt.report.Hello == nil && orders[0].Welcome.Session != "s" {
				t.Errorf("%s: session %q", name, orders[0].Welcome.Session)
			}
		}
	})
}

// An endpoint stays connected, and its responses open, for three of its own intervals.
func TestSilenceDependsOnTheAgentsInterval(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		for name, tt := range map[string]struct{ interval, silent time.Duration }{
			"default":   {0, 30 * time.Second},
			"shorter":   {time.Second, 30 * time.Second}, // shorter than the interval of the welcome
			"longer":    {time.Minute, 3 * time.Minute},
			"excessive": {1000 * time.Hour, 3 * time.Hour},
		} {
			f.apply(t, hello(name, "s"), heartbeatEvery(name, tt.interval))
			task := f.create(t, request(name, name))
			f.send(t, 1)
			f.apply(t, update(name, task.ID, 1, 1, tasker.Running)) // an update does not shorten the time
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

// A response shows since when its endpoint is silent, while its agent has the
// assignment and has not ended it.
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
				t.Fatalf("open responses are %+v", open)
			}
			for _, r := range append(open, all...) {
				if got := r.SilentSince != nil; got != slices.Contains(endpoints, r.Endpoint) {
					t.Errorf("%s is silent since %v; want %v silent", r.Endpoint, r.SilentSince, endpoints)
				}
			}
		}
		silent()
		lastSeen := f.Now()
		f.apply(t, goodbye("b"))
		silent("b")
		f.Add(time.Minute)
		silent("a", "b")
		_, changed, err := f.Changes(t.Context(), task.ID, 0)
		must(t, err)
		if at := changed[0].SilentSince; at == nil || !at.Equal(lastSeen) {
			t.Errorf("a is silent since %v, want %v", at, lastSeen)
		}
		f.apply(t, hello("a", "t", tasker.AssignmentRef{TaskID: task.ID, Attempt: 1}), heartbeat("b"))
		silent()
	})
}
