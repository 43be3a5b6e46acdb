package service

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers/systemd"
)

// FailedError is returned for a unit that did not reach the wanted state.
type FailedError struct {
	Unit string
	// Reason completes the sentence that Unit begins, like "did not become active: …".
	Reason string
	// State is the state of the unit after the failure.
	State State
	// Journal has the last lines of the unit's journal since the request. It may be empty.
	Journal []string
}

// Error includes the lines of the journal.
func (e *FailedError) Error() string {
	text := fmt.Sprintf("%s %s; it is %s now", e.Unit, e.Reason, e.State)
	if len(e.Journal) == 0 {
		return text + "; its journal has no new lines, see `systemctl status " + e.Unit + "` on the server"
	}
	return text + "; the last lines of its journal:\n" + strings.Join(e.Journal, "\n")
}

// waiter waits for the outcome of one job of a unit.
type waiter struct {
	conn   *systemd.Conn
	verb   verb
	unit   string
	settle time.Duration
	// since is the time of the request.
	since time.Time
	// jobResults receives the result of the job, like done or failed. It is nil if another
	// process requested the job.
	jobResults chan string
	jobResult  string

	// first is the first observed state. active is the first observed active state, which
	// has to last until settled.
	first, active *unitState
	settled       time.Time
}

// pollInterval is the time between two queries of the unit's state.
const pollInterval = 100 * time.Millisecond

// wait returns when the unit has reached the wanted state or can no longer reach it.
func (w *waiter) wait(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case w.jobResult = <-w.jobResults:
		case <-ticker.C:
		case <-ctx.Done():
			return w.giveUp(ctx)
		}
		s, err := stateOf(ctx, w.conn, w.unit)
		switch {
		case ctx.Err() != nil:
			return w.giveUp(ctx)
		case err != nil:
			return err
		}
		if ended, failure := w.judge(s, time.Now()); failure != "" {
			return &FailedError{Unit: w.unit, Reason: failure, State: s.State, Journal: journal(ctx, w.unit, w.since)}
		} else if ended {
			return nil
		}
	}
}

// giveUp returns the error for a unit whose outcome is unknown because ctx is done.
func (w *waiter) giveUp(ctx context.Context) error {
	cause := context.Cause(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), systemd.Timeout)
	defer cancel()
	s, err := stateOf(ctx, w.conn, w.unit)
	if err != nil {
		return fmt.Errorf("%w; the state of %s is unknown: %w", cause, w.unit, err)
	}
	e := &FailedError{Unit: w.unit, State: s.State, Reason: w.failedVerb() + " in that time", Journal: journal(ctx, w.unit, w.since)}
	return fmt.Errorf("%w: %w", cause, e)
}

// judge reports whether the wait has ended and, if the unit has failed, the failure.
func (w *waiter) judge(s unitState, now time.Time) (ended bool, failure string) {
	if w.first == nil {
		w.first = &s
	}
	if w.jobResult != "" && w.jobResult != "done" {
		return true, w.failedVerb() + ": " + w.explain(s)
	}
	if (w.verb == start || w.verb == restart) && w.restartsAutomatically(s) {
		return true, w.failedVerb() + ": " + w.explain(s) + ", and systemd starts it again and again"
	}
	if s.hasJob || s.Active == "activating" || s.Active == "deactivating" {
		return false, ""
	}
	if w.verb == stop {
		if s.active() {
			return true, w.failedVerb() + ": it was started again meanwhile"
		}
		return true, ""
	}
	if s.active() {
		return w.judgeActive(s, now)
	}
	return true, w.judgeInactive(s)
}

// restartsAutomatically reports whether systemd restarts the unit after a failure.
func (w *waiter) restartsAutomatically(s unitState) bool {
	return s.Sub == "auto-restart" && !s.hasJob || s.restarts > w.first.restarts
}

// judgeActive is judge for a unit that is active.
func (w *waiter) judgeActive(s unitState, now time.Time) (ended bool, failure string) {
	if w.active == nil {
		w.active, w.settled = &s, now.Add(w.settle)
	} else if s.invocation != w.active.invocation {
		return true, "did not stay active: it was started again meanwhile"
	}
	return !now.Before(w.settled), ""
}

// judgeInactive returns the failure of a unit that is not active after its job has ended.
// A oneshot unit that succeeded has not failed.
func (w *waiter) judgeInactive(s unitState) (failure string) {
	switch {
	case s.serviceType == "oneshot" && s.Active == "inactive" && s.result == "success":
		return ""
	case w.active != nil:
		return "did not stay active: " + w.explain(s)
	}
	return w.failedVerb() + ": " + w.explain(s)
}

// failedVerb returns the beginning of a failure, like "could not be stopped".
func (w *waiter) failedVerb() string {
	switch w.verb {
	case stop:
		return "could not be stopped"
	case reload:
		return "did not reload"
	}
	return "did not become active"
}

// explain returns the reason of a failure and, where it is known, the remedy.
func (w *waiter) explain(s unitState) string {
	switch w.jobResult {
	case "dependency":
		return "a unit that it needs has failed; see `systemctl list-dependencies " + w.unit + "` on the server"
	case "canceled":
		return "systemd got a conflicting request for it meanwhile"
	case "assert":
		return "an assertion in its file failed"
	}
	exit := s.mainExit()
	switch {
	case s.result == "timeout" && w.verb != stop:
		return fmt.Sprintf("it did not report that it is ready within its start timeout of %s; find out what it waits for, or raise TimeoutStartSec= in its file", s.startTimeout)
	case s.result == "timeout":
		return "it did not end within its stop timeout (TimeoutStopSec=), and was killed"
	case s.result == "start-limit-hit":
		return "it was started too often in a short time"
	case s.result == "protocol":
		return strings.TrimPrefix(exit+", ", ", ") + "and it did not report that it is ready, as Type=" + s.serviceType + " requires"
	case exit != "" && s.result != "success":
		return exit + " (" + s.result + ")"
	case exit != "":
		return exit
	case s.result == "success" && w.active == nil:
		// systemd soon forgets all other details of a unit that has not failed.
		return "systemd did not start it, or it ended at once without a failure; check the conditions in its file"
	case s.result == "success":
		return "it ended, though without a failure"
	}
	return "its result is " + s.result
}
