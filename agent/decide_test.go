package agent

import (
	"errors"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	supported := func() string { return "" }
	unsupported := func() string { return "no handler" }
	tests := map[string]struct {
		facts facts
		want  decision
	}{
		"received/accept": {
			facts{timeKnown: true},
			decision{action: actionRun, outcome: outcomeAccepted},
		},
		"received/repeat_the_last_report_of_a_duplicate": {
			facts{recorded: true, latest: 2, tombstone: 2, late: true, refusal: unsupported},
			decision{action: actionRepeat, outcome: outcomeDuplicate},
		},
		"received/drop_an_attempt_older_than_the_latest": {
			facts{latest: 2, tombstone: 2},
			decision{action: actionDrop, outcome: outcomeStale},
		},
		"received/hold_while_the_time_is_unknown": {
			facts{tombstone: 1},
			decision{action: actionHold},
		},
		"received/hold_a_refusal_while_the_time_is_unknown": {
			facts{refusal: unsupported},
			decision{action: actionHold, reason: "no handler"},
		},
		"received/drop_after_the_deadline": {
			facts{timeKnown: true, late: true, tombstone: 1, refusal: unsupported},
			decision{action: actionDrop, outcome: outcomeExpired},
		},
		"received/end_a_cancelled_attempt": {
			facts{timeKnown: true, tombstone: 1, refusal: unsupported},
			decision{actionEnd, outcomeCancelled, tasker.Cancelled, "cancelled before it was received"},
		},
		"received/reject_what_no_handler_supports": {
			facts{timeKnown: true, refusal: unsupported},
			decision{actionEnd, outcomeRejected, tasker.Rejected, "no handler"},
		},
		"held/accept": {
			facts{phase: journal.Held, timeKnown: true, tombstone: 1, latest: 2},
			decision{action: actionRun, outcome: outcomeAccepted},
		},
		"held/drop_after_the_deadline": {
			facts{phase: journal.Held, timeKnown: true, late: true},
			decision{action: actionDrop, outcome: outcomeExpired},
		},
		"accepted/keep": {
			facts{phase: journal.Accepted, recorded: true, latest: 1},
			decision{action: actionRun},
		},
		"accepted/end_a_cancelled_attempt": {
			facts{phase: journal.Accepted, tombstone: 1, latest: 2, refusal: unsupported},
			decision{action: actionEnd, status: tasker.Cancelled, reason: "cancelled before it was started"},
		},
		"accepted/end_a_replaced_attempt": {
			facts{phase: journal.Accepted, latest: 2, refusal: unsupported},
			decision{action: actionEnd, status: tasker.Cancelled, reason: "replaced by attempt 2"},
		},
		"accepted/reject_what_was_refused_while_held": {
			facts{phase: journal.Accepted, latest: 1, refusal: unsupported},
			decision{action: actionEnd, status: tasker.Rejected, reason: "no handler"},
		},
		"starting/interrupt_by_default": {
			facts{phase: journal.Starting, latest: 1},
			decision{action: actionEnd, status: tasker.Interrupted, reason: "agent was restarted"},
		},
		"starting/interrupt_if_the_handler_must_never_restart": {
			facts{phase: journal.Starting, restart: handlers.RestartNever},
			decision{action: actionEnd, status: tasker.Interrupted, reason: "agent was restarted"},
		},
		"starting/run_again": {
			facts{phase: journal.Starting, restart: handlers.RestartRetry},
			decision{action: actionRun},
		},
		"starting/resume": {
			facts{phase: journal.Starting, restart: handlers.RestartResume},
			decision{action: actionResume},
		},
		"starting/end_a_cancelled_attempt": {
			facts{phase: journal.Starting, tombstone: 1, restart: handlers.RestartRetry},
			decision{action: actionEnd, status: tasker.Cancelled, reason: "cancelled while it was running"},
		},
		"starting/end_a_replaced_attempt": {
			facts{phase: journal.Starting, latest: 2, restart: handlers.RestartResume},
			decision{action: actionEnd, status: tasker.Cancelled, reason: "cancelled while it was running"},
		},
		"starting/let_the_handler_end_detached_work": {
			facts{phase: journal.Starting, tombstone: 1, detached: true, restart: handlers.RestartResume},
			decision{action: actionReattach},
		},
		"starting/never_run_beside_processes_that_survive": {
			facts{phase: journal.Starting, tombstone: 1, detached: true, restart: handlers.RestartRetry, killErr: errors.New("permission denied")},
			decision{
				action: actionEnd, status: tasker.Interrupted,
				reason: "agent was restarted, and cannot kill the processes it had started: permission denied",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.facts.attempt = 1
			if tt.facts.refusal == nil {
				tt.facts.refusal = supported
			}
			if got := decide(tt.facts); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
