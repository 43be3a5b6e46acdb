package main

import (
	"fmt"
	"io"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

// lines prints a line for each change worth a line, for logs.
type lines struct {
	out  io.Writer
	told map[string]tasker.Response
	now  func() time.Time
	// open: it was told that other endpoints are waited for.
	open bool
	// lost: it was told that the control plane cannot be reached.
	lost bool
	// wave and standing are what was told of a rollout.
	wave     int
	standing string
}

func newLines(out io.Writer, now func() time.Time) *lines {
	return &lines{out: out, told: map[string]tasker.Response{}, now: now}
}

func (l *lines) say(format string, args ...any) {
	fmt.Fprintf(l.out, l.now().Format(time.TimeOnly)+"  "+format+"\n", args...)
}

func (l *lines) show(s client.State) {
	switch {
	case s.StreamErr != nil && !l.lost:
		l.say("the control plane cannot be reached, and is asked again; the task goes on meanwhile")
	case s.StreamErr == nil && l.lost:
		l.say("the control plane is reached again")
	}
	if l.lost = s.StreamErr != nil; l.lost {
		return
	}
	if s.Task.Rollout != nil {
		l.begun(*s.Task.Rollout)
	}
	for _, r := range s.Responses {
		before, ok := l.told[r.Endpoint]
		if ok && !worthTelling(before, r) || s.Task.Rollout != nil && untouched(r) {
			continue
		}
		l.told[r.Endpoint] = r
		l.say("%s  %s", plain(r.Endpoint), describe(r))
	}
	if s.Task.Rollout != nil {
		l.stands(s.Task)
	}
	if open := openUntil(s.Task); open != "" && !l.open {
		l.open = true
		l.say("%s", open)
	}
}

// untouched: a rollout has not come to it, and if it is skipped, never will.
func untouched(r tasker.Response) bool {
	return r.Status == tasker.Pending && r.Reason == "" || r.Status == tasker.Skipped
}

// begun tells the waves that have begun since it was last told.
func (l *lines) begun(r tasker.Rollout) {
	if r.State == tasker.RolloutPlanned {
		return // no wave begins
	}
	if r.Wave < l.wave { // a retry
		l.wave = 0
	}
	for ; l.wave < min(r.Wave, len(r.Waves)); l.wave++ {
		l.say("wave %d of %d begins: %s", l.wave+1, len(r.Waves), plural(r.Waves[l.wave], "endpoint"))
	}
}

// stands tells where the rollout stands, unless a wave is performed or it has only
// just been stored.
func (l *lines) stands(t tasker.Task) {
	now := standing(t)
	if t.Rollout.State != tasker.RolloutRunning && now != string(tasker.RolloutScheduled) && now != l.standing {
		l.say("%s", now)
	}
	l.standing = now
}

func (l *lines) end(last client.State) error {
	if last.Task.ID != "" {
		l.say("%s", headline(last.Task))
	}
	clear(l.told)
	return nil
}

// worthTelling says whether a response changed in more than a few percent.
func worthTelling(before, after tasker.Response) bool {
	const step = 10
	if before.Status != after.Status || before.Attempt != after.Attempt || before.Reason != after.Reason ||
		(before.SilentSince == nil) != (after.SilentSince == nil) {
		return true
	}
	if before.Progress == nil || after.Progress == nil {
		return before.Progress != after.Progress
	}
	return before.Progress.Message != after.Progress.Message || after.Progress.Percent-before.Progress.Percent >= step
}
