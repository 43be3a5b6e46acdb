package watch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

// rolloutOf returns a task on so many endpoints in waves. The waves before the given one
// have succeeded; in that wave the first endpoint has failed and the others run.
func rolloutOf(endpoints, wave int, spec tasker.RolloutSpec) client.State {
	s := client.State{Task: tasker.Task{
		ID: "t", Type: "update-app", Identifier: "v2", Status: tasker.TaskRunning, Counts: tasker.Counts{},
		Rollout: &tasker.Rollout{RolloutSpec: spec, State: tasker.RolloutRunning, Waves: spec.WaveSizes(endpoints), Wave: wave},
	}}
	for i, size := range s.Task.Rollout.Waves {
		for n := range size {
			r := tasker.Response{Endpoint: fmt.Sprintf("web-%d", len(s.Responses)+1), Wave: i + 1, Attempt: 1, Status: tasker.Pending}
			switch {
			case r.Wave < wave:
				r.Status, r.StartedAt, r.FinishedAt = tasker.Succeeded, at(0), at(2000)
			case r.Wave == wave && n == 0:
				r.Status, r.Error, r.FinishedAt, r.OutputBytes = tasker.Failed, "exit code 22", at(3000), 10
			case r.Wave == wave:
				r.Status, r.OutputBytes = tasker.Running, 10
				r.Progress = &tasker.Progress{Percent: 50, Message: "unpack"}
			}
			s.Task.Counts.Transition("", r.Status)
			s.Responses = append(s.Responses, r)
		}
	}
	return s
}

func amounts(t *testing.T, list ...string) tasker.Amounts {
	t.Helper()
	var all tasker.Amounts
	for _, s := range list {
		a, err := tasker.ParseAmount(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

func TestBoard(t *testing.T) {
	t.Parallel()
	spec := tasker.RolloutSpec{Canary: tasker.Amount{N: 1}, Batch: amounts(t, "10%", "25%"), MaxFailures: tasker.Amount{N: 1}, PauseBetween: tasker.Duration(30 * time.Second)}
	running := rolloutOf(20, 2, spec)
	soaking := rolloutOf(20, 1, spec)
	soaking.Task.Rollout.State, soaking.Task.Rollout.Until = tasker.RolloutSoaking, at(30_000)
	soaking.Responses[0].Status = tasker.Succeeded
	soaking.Task.Counts = tasker.Counts{tasker.Succeeded: 1, tasker.Pending: 19}
	retried := rolloutOf(3, 1, tasker.RolloutSpec{Batch: amounts(t, "1")})
	for i := range retried.Responses {
		retried.Responses[i].Attempt = 2
	}
	for range 5 {
		retried.Responses = append(retried.Responses, tasker.Response{Endpoint: "x", Wave: 1, Attempt: 1, Status: tasker.Succeeded})
	}
	stopped := rolloutOf(4, 1, tasker.RolloutSpec{Batch: amounts(t, "50%")})
	stopped.Task.Rollout.State, stopped.Task.Rollout.Reason = tasker.RolloutStopped, "1 of 4 failed (loadbalancer-1); at most 0 may"
	for i := 1; i < 4; i++ {
		stopped.Responses[i].Status = tasker.Skipped
	}
	stopped.Task.Status, stopped.Task.Counts = tasker.TaskFailed, tasker.Counts{tasker.Failed: 1, tasker.Skipped: 3}
	cancelled := rolloutOf(5, 2, tasker.RolloutSpec{Batch: amounts(t, "2")})
	for i := 3; i < 5; i++ {
		cancelled.Responses[i].Status = tasker.Cancelled
	}
	cancelled.Task.Rollout.State, cancelled.Task.Rollout.Reason = tasker.RolloutCancelled, "cancelled by admin"
	cancelled.Task.Status, cancelled.Task.Counts = tasker.TaskCancelled, tasker.Counts{tasker.Succeeded: 2, tasker.Failed: 1, tasker.Cancelled: 2}
	said := rolloutOf(3, 2, tasker.RolloutSpec{Batch: amounts(t, "1")})
	said.Responses[1].Error = "exit code 22: no such host"
	clockOf := func(ms int) string { return at(ms).Local().Format(time.TimeOnly) }
	tests := []struct {
		name          string
		state         client.State
		width, height int
		want          string
	}{
		{"running", running, 81, 24, `update-app v2
running, wave 2 of 6, about 3m left
17 pending, 1 running, 1 succeeded, 1 failed; at most 1 of 20 may fail
  canary  ████████████████████  1/1  done
  2       ××××××××××▒▒▒▒▒▒▒▒▒▒  1/2  1 running, 1 failed
  3       ░░░░░░░░░░░░░░░░░░░░  0/5  waiting
  4       ░░░░░░░░░░░░░░░░░░░░  0/5  waiting
  5       ░░░░░░░░░░░░░░░░░░░░  0/5  waiting
  6       ░░░░░░░░░░░░░░░░░░░░  0/2  waiting

  web-2  failed  exit code 22
    │ no such host
  web-3  running    ━━━━━━━━━━──────────  50%  unpack

p pause`},
		{"an error that has the last line", said, 81, 24, `update-app v2
running, wave 2 of 3, about 10s left
1 pending, 1 succeeded, 1 failed; at most 0 of 3 may fail
  1  ████████████████████  1/1  done
  2  ××××××××××××××××××××  1/1  1 failed
  3  ░░░░░░░░░░░░░░░░░░░░  0/1  waiting

  web-2  failed  exit code 22: no such host

p pause`},
		{"on a narrowWidth terminal", running, 40, 24, `update-app v2
running, wave 2 of 6, about 3m left
17 pending, 1 running, 1 succeeded, 1
failed; at most 1 of 20 may fail
  canary  ██████  1/1  done
  2       ×××▒▒▒  1/2  1 running, 1 fa…
  3       ░░░░░░  0/5  waiting
  4       ░░░░░░  0/5  waiting
  5       ░░░░░░  0/5  waiting
  6       ░░░░░░  0/2  waiting

  web-2  failed exit code 22
    │ no such host
  web-3  running 50% unpack

p pause`},
		{"on a low terminal", running, 81, 10, `update-app v2
running, wave 2 of 6, about 3m left
17 pending, 1 running, 1 succeeded, 1 failed; at most 1 of 20 may fail
  1 wave before: 1 succeeded
  2       ××××××××××▒▒▒▒▒▒▒▒▒▒  1/2  1 running, 1 failed
  4 waves after: 17 pending
  web-2  failed  exit code 22
  web-3  running    ━━━━━━━━━━──────────  50%  unpack
p pause`},
		{"soaking", soaking, 81, 24, `update-app v2
running, before wave 2 of 6: soaking until ` + clockOf(30_000) + `, about 3m left
19 pending, 1 succeeded; at most 1 of 20 may fail
  canary  ████████████████████  1/1  done
  2       ░░░░░░░░░░░░░░░░░░░░  0/2  soaking until ` + clockOf(30_000) + ` (25s)
  3       ░░░░░░░░░░░░░░░░░░░░  0/5  waiting
  4       ░░░░░░░░░░░░░░░░░░░░  0/5  waiting
  5       ░░░░░░░░░░░░░░░░░░░░  0/5  waiting
  6       ░░░░░░░░░░░░░░░░░░░░  0/2  waiting

p pause`},
		{"tried again", retried, 81, 24, `update-app v2
running, wave 1 of 3, about 20s left
2 pending, 1 failed; at most 0 of 3 may fail
  done before: 5 succeeded
  1  ××××××××××××××××××××  1/1  1 failed
  2  ░░░░░░░░░░░░░░░░░░░░  0/1  waiting
  3  ░░░░░░░░░░░░░░░░░░░░  0/1  waiting

  web-1  failed  attempt 2  exit code 22

p pause`},
		{"stopped", stopped, 81, 24, `update-app v2
failed, stopped in wave 1 of 2: 1 of 4 failed (loadbalancer-1); at most 0 may
1 failed, 3 skipped; at most 0 of 4 may fail
  1  ××××××××××░░░░░░░░░░  2/2  1 failed
  2  ░░░░░░░░░░░░░░░░░░░░  2/2  2 skipped

  web-1  failed  exit code 22

p pause`},
		{"cancelled", cancelled, 81, 24, `update-app v2
cancelled by admin
2 succeeded, 1 failed, 2 cancelled; at most 0 of 5 may fail
  1  ████████████████████  2/2  done
  2  ××××××××××░░░░░░░░░░  2/2  1 failed, 1 cancelled
  3  ░░░░░░░░░░░░░░░░░░░░  1/1  1 cancelled

  web-3  failed  exit code 22

p pause`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := board{state: tt.state, now: *at(5000), usual: 10 * time.Second, tails: map[string]string{"web-2": "no such host"}, footer: "p pause"}
			if diff := cmp.Diff(tt.want, strings.Join(b.rows(tt.width, tt.height), "\n")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestBoardIsOneScreen draws large rollouts on terminals of many sizes.
func TestBoardIsOneScreen(t *testing.T) {
	t.Parallel()
	for _, endpoints := range []int{1, 20, 5000} {
		for _, batch := range []string{"1", "10%", "100%"} {
			spec := tasker.RolloutSpec{Canary: tasker.Amount{N: 1}, Batch: amounts(t, batch)}
			waves := len(spec.WaveSizes(endpoints))
			for _, wave := range []int{0, 1, waves / 2, waves} {
				s := rolloutOf(endpoints, wave, spec)
				for _, size := range [][2]int{{20, 5}, {40, 10}, {80, 24}, {200, 60}} {
					for _, colour := range []bool{false, true} {
						b := board{state: s, now: *at(5000), tails: map[string]string{"web-2": strings.Repeat("x", 300)}, footer: "p pause", screen: Screen{Colour: colour}}
						rows := b.rows(size[0], size[1])
						if len(rows) >= size[1] {
							t.Errorf("%d endpoints in waves of %s: %d lines on a terminal of %d:\n%s", endpoints, batch, len(rows), size[1], strings.Join(rows, "\n"))
						}
						for _, row := range rows {
							if w := text.StringWidthWithoutEscSequences(row); w >= size[0] {
								t.Errorf("%d columns on a terminal of %d: %s", w, size[0], row)
							}
						}
						if all := strings.Join(rows, "\n"); !strings.Contains(all, "p pause") {
							t.Errorf("no keys on %v:\n%s", size, all)
						}
					}
				}
			}
		}
	}
}
