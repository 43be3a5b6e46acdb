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
// A status only moves up in rank (see [ResponseStatus.Rank]), so duplicate and
// reordered messages do no harm. A status that a deadline set because the agent did
// not report (Response.Presumed) is replaced by a late report. A final status that
// the agent reported never changes within an attempt.
//
// # A task
//
//	pending ──► sent ──► running ──┬─► succeeded    every response succeeded
//	               ▲        │      ├─► failed       all ended, at least one otherwise
//	               └ paused ┘      ├─► cancelled    all ended, and the task was cancelled
//	                               └─► incomplete   at least one is missing
//
// The status of a task is derived: [Counts.TaskStatus] is a pure function of the
// number of responses in each status and of the task's flags. After the task has
// ended, a late report can still change incomplete to succeeded or failed.
package tasker
