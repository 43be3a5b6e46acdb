package service

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// FailedError says that a unit did not become what it should.
type FailedError struct {
	Unit string
	// Reason says what was to be, and what is wrong.
	Reason string
	// State is how the unit is then.
	State State
	// Journal is the last lines of its journal since it was asked for, and may be empty.
	Journal []string
}

// Error has the last lines of the journal too.
func (e *FailedError) Error() string {
	text := fmt.Sprintf("%s %s; it is %s now", e.Unit, e.Reason, e.State)
	if len(e.Journal) == 0 {
		return text + "; its journal has nothing of this, on the server: systemctl status " + e.Unit
	}
	return text + "; the last of its journal:\n" + strings.Join(e.Journal, "\n")
}

// watch waits for what becomes of a unit.
type watch struct {
	*conn
	verb   verb
	unit   string
	settle time.Duration
	// since is when it was asked for.
	since time.Time
	// ended is told by systemd how the job has ended, like done or failed; nil where
	// another process has asked for it.
	ended chan string

	// job is what ended has said.
	job string
	// first is how the unit was seen first, steady when it was seen active, and until
	// when that has to last.
	first, steady *unitState
	until         time.Time
}

// lookEvery is how often systemd is asked how a unit is.
const lookEvery = 100 * time.Millisecond

// wait returns when the unit has become what it should, or cannot any more.
func (w *watch) wait(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case w.job = <-w.ended:
		case <-ticker.C:
		case <-ctx.Done():
			return w.left(ctx)
		}
		s, err := w.show(ctx, w.unit)
		switch {
		case ctx.Err() != nil:
			return w.left(ctx)
		case err != nil:
			return err
		}
		if over, reason := w.judge(s, time.Now()); reason != "" {
			return w.failed(ctx, s, reason)
		} else if over {
			return nil
		}
	}
}

// judge says whether the waiting is over, and, if the unit has failed, why.
func (w *watch) judge(s unitState, now time.Time) (over bool, reason string) {
	if w.first == nil {
		w.first = &s
	}
	if w.job != "" && w.job != "done" {
		return true, w.did() + ": " + w.why(s)
	}
	if w.verb == start || w.verb == restart {
		if s.Sub == "auto-restart" && !s.busy || s.restarts > w.first.restarts {
			return true, w.did() + ": " + w.why(s) + ", and systemd starts it again and again"
		}
	}
	if s.busy || s.Active == "activating" || s.Active == "deactivating" {
		return false, ""
	}
	switch {
	case w.verb == stop && s.active():
		return true, w.did() + ": it was started again meanwhile"
	case w.verb == stop:
		return true, ""
	case s.active() && w.steady == nil:
		w.steady, w.until = &s, now.Add(w.settle)
	case s.active() && s.invocation != w.steady.invocation:
		return true, "did not stay active: it was started again meanwhile"
	case s.active():
	case s.kind == "oneshot" && s.Active == "inactive" && s.result == "success":
		return true, ""
	case w.steady != nil:
		return true, "did not stay active: " + w.why(s)
	default:
		return true, w.did() + ": " + w.why(s)
	}
	return !now.Before(w.until), ""
}

// did says what did not come about.
func (w *watch) did() string {
	switch w.verb {
	case stop:
		return "could not be stopped"
	case reload:
		return "did not reload"
	}
	return "did not become active"
}

// why says what is wrong with a unit, and what helps where that is known.
func (w *watch) why(s unitState) string {
	switch w.job {
	case "dependency":
		return "a unit that it needs has failed; on the server: systemctl list-dependencies " + w.unit
	case "canceled":
		return "systemd was asked for something else with it meanwhile"
	case "assert":
		return "an assertion of its file does not hold"
	}
	exit := s.exit()
	switch {
	case s.result == "timeout" && w.verb != stop:
		return fmt.Sprintf("it did not say that it is ready within its start timeout of %s; find out what it waits for, or give it longer with TimeoutStartSec= in its file", s.startTimeout)
	case s.result == "timeout":
		return "it did not end within its stop timeout (TimeoutStopSec=), and was killed"
	case s.result == "start-limit-hit":
		return "it was started too often in a short time"
	case s.result == "protocol":
		return strings.TrimPrefix(exit+", ", ", ") + "and it did not say that it is ready as its Type=" + s.kind + " wants it"
	case exit != "" && s.result != "success":
		return exit + " (" + s.result + ")"
	case exit != "":
		return exit
	}
	// systemd soon forgets all else of a unit that has not failed.
	if s.result == "success" && w.steady == nil {
		return "systemd did not start it, or it ended at once without a failure; is there a condition in its file that does not hold?"
	}
	if s.result == "success" {
		return "it ended, though without a failure"
	}
	return "systemd says " + s.result
}

func (w *watch) failed(ctx context.Context, s unitState, reason string) error {
	return &FailedError{Unit: w.unit, Reason: reason, State: s.State, Journal: journal(ctx, w.unit, w.since)}
}

// left says how a unit is that is not waited for any longer.
func (w *watch) left(ctx context.Context) error {
	cause := context.Cause(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	s, err := w.show(ctx, w.unit)
	if err != nil {
		return fmt.Errorf("%w; how %s is cannot be told: %w", cause, w.unit, err)
	}
	e := &FailedError{Unit: w.unit, State: s.State, Reason: w.did() + " in that time", Journal: journal(ctx, w.unit, w.since)}
	return fmt.Errorf("%w: %w", cause, e)
}
