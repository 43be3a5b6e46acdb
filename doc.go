// Package tasker is the vocabulary of tasker: the domain types, the messages
// that travel between control plane and agents, and the function that derives
// a task's status from its responses. It imports the standard library only, so
// that every other package may import it.
//
// # A response, one endpoint's part in one task
//
//	pending ──► sent ──► received ──► running ──► succeeded
//	   │          │          │           │     ├─► failed
//	   │          │          │           │     └─► timed_out
//	   │          │          └───────────┴───────► cancelled | rejected | interrupted
//	   ├──────────┴─► missing     (not received before the receive deadline)
//	   ├────────────► cancelled   (never sent, the task was cancelled)
//	   └────────────► skipped     (a rollout stopped before it)
//
// A status only moves up in rank (see [ResponseStatus.Rank]), so messages that
// arrive twice or out of order do no harm. What was concluded in place of a silent
// agent (Response.Presumed: missing, lost, silent since) gives way to a report
// that comes after all; what an agent said is final within an attempt.
//
// # A task
//
//	pending ──► sent ──► running ──┬─► succeeded    every response succeeded
//	               ▲        │      ├─► failed       all ended, at least one otherwise
//	               └ paused ┘      ├─► cancelled    all ended, and a cancel was asked for
//	                               └─► incomplete   at least one is missing
//
// The status of a task has no life of its own: it is [Counts.TaskStatus], a pure
// function of the number of responses in each status and of the task's flags.
// Only incomplete may still change into succeeded or failed, by a late report.
package tasker
