package store

import (
	"encoding/json"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// taskRow is a row of tasks. Without its body, payload and endpoints are absent.
type taskRow struct {
	tasker.Task
	fingerprint []byte
	broadcast   bool
	// broadcastSent: the order of a broadcast was handed to the transport.
	broadcastSent bool
	attempt       int
	// closesAt is the receive deadline of a broadcast until it has passed.
	closesAt sqldb.Micros
	sendTimes
	pacing pacing
	paused bool

	// dirty: to be written. changed: to be written with a new version.
	dirty, changed bool
	// The rest is the state when the row was read; storedValues are its mutable
	// columns.
	storedValues []any
	wasFinished  bool
	wasStatus    tasker.TaskStatus
	wasPaused    bool
}

// sendTimes are the times at which the two orders of a task or response are due.
type sendTimes struct {
	nextSendAt   sqldb.Micros
	sendTries    int
	cancelSendAt sqldb.Micros
	cancelTries  int
}

// reschedule makes the order of a claim due at next, zero is never, and reports whether
// the claim still held it.
func (s *sendTimes) reschedule(c Claim, next sqldb.Micros) bool {
	at := &s.nextSendAt
	if c.Cancel {
		at = &s.cancelSendAt
	}
	// If the row shows another time, the order was made due again meanwhile.
	if *at == 0 || c.heldUntil != 0 && c.heldUntil != *at {
		return false
	}
	*at = next
	return true
}

// The columns of tasks: without the body, with it, as inserted, as updated.
//
//nolint:gochecknoglobals // constant
var (
	taskColumns = sqldb.NewColumns(
		sqldb.Text("id", func(t *taskRow) *string { return &t.ID }),
		sqldb.Text("type", func(t *taskRow) *string { return &t.Type }),
		sqldb.Text("identifier", func(t *taskRow) *string { return &t.Identifier }),
		sqldb.Text("status", func(t *taskRow) *tasker.TaskStatus { return &t.Status }).Mutable(),
		sqldb.Text("reason", func(t *taskRow) *string { return &t.Reason }).Mutable(),
		sqldb.JSON("counts", func(t *taskRow) *tasker.Counts { return &t.Counts }).Mutable(),
		sqldb.Field("attempt", func(t *taskRow) *int { return &t.attempt }).Mutable(),
		sqldb.Duration("receive_timeout", func(t *taskRow) *tasker.Duration { return &t.ReceiveTimeout }),
		sqldb.Time("receive_deadline", func(t *taskRow) *time.Time { return &t.ReceiveDeadline }).Mutable(),
		sqldb.Duration("timeout", func(t *taskRow) *tasker.Duration { return &t.Timeout }),
		sqldb.Time("created_at", func(t *taskRow) *time.Time { return &t.CreatedAt }),
		sqldb.TimeOrNull("finished_at", func(t *taskRow) **time.Time { return &t.FinishedAt }).Mutable(),
		sqldb.TimeOrNull("cancel_requested_at", func(t *taskRow) **time.Time { return &t.CancelRequestedAt }).Mutable(),
		sqldb.Text("cancel_requested_by", func(t *taskRow) *string { return &t.CancelRequestedBy }).Mutable(),
		sqldb.Field("broadcast", func(t *taskRow) *bool { return &t.broadcast }),
		sqldb.Field("broadcast_sent", func(t *taskRow) *bool { return &t.broadcastSent }).Mutable(),
		sqldb.Field("closes_at", func(t *taskRow) *sqldb.Micros { return &t.closesAt }).Mutable(),
		sqldb.Field("next_send_at", func(t *taskRow) *sqldb.Micros { return &t.nextSendAt }).Mutable(),
		sqldb.Field("send_tries", func(t *taskRow) *int { return &t.sendTries }).Mutable(),
		sqldb.Field("cancel_send_at", func(t *taskRow) *sqldb.Micros { return &t.cancelSendAt }).Mutable(),
		sqldb.Field("cancel_tries", func(t *taskRow) *int { return &t.cancelTries }).Mutable(),
		sqldb.Field("version", func(t *taskRow) *int64 { return &t.Version }).Mutable(),
		sqldb.Text("labels", func(t *taskRow) *string { return &t.Labels }),
		sqldb.Text("action", func(t *taskRow) *tasker.Action { return &t.Action }),
		sqldb.Text("undoes", func(t *taskRow) *string { return &t.Undoes }),
		sqldb.TimeOrNull("not_before", func(t *taskRow) **time.Time { return &t.NotBefore }),
		sqldb.Field("pacing", func(t *taskRow) *pacing { return &t.pacing }).Mutable(),
		sqldb.Field("paused", func(t *taskRow) *bool { return &t.paused }).Mutable(),
		sqldb.JSON("callback", func(t *taskRow) **tasker.Callback { return &t.Callback }),
	)
	taskBodyColumns = taskColumns.With(
		sqldb.Bytes("payload", func(t *taskRow) *json.RawMessage { return &t.Payload }),
		sqldb.JSON("endpoints", func(t *taskRow) *[]string { return &t.Endpoints }),
	)
	newTaskColumns = taskBodyColumns.With(
		sqldb.Bytes("fingerprint", func(t *taskRow) *[]byte { return &t.fingerprint }),
	)
	mutableTaskColumns = taskColumns.Mutable()
)

// recordStored keeps the state of a row that was read, to find out later what changed.
func (t *taskRow) recordStored() (err error) {
	t.wasFinished, t.wasStatus, t.wasPaused = t.Counts.Finished(t.flags()), t.Status, t.paused
	t.storedValues, err = mutableTaskColumns.Values(t)
	return err
}

// deadline is the receive deadline of the task's last attempt.
func (t *taskRow) deadline() sqldb.Micros { return sqldb.MicrosOf(t.ReceiveDeadline) }

func (t *taskRow) flags() tasker.Flags {
	return tasker.Flags{Cancel: t.CancelRequestedAt != nil, Pause: t.paused, Open: t.closesAt != 0, Sent: t.broadcastSent}
}

// change marks the task as changed, in its next version.
func (t *taskRow) change() {
	if !t.changed {
		t.changed = true
		t.Version++
	}
}

// deriveStatus sets the status and end that follow from the task's counts.
func (t *taskRow) deriveStatus(now sqldb.Micros) {
	t.Status = t.Counts.TaskStatus(t.flags())
	switch {
	case !t.Counts.Finished(t.flags()):
		t.FinishedAt = nil
	case t.FinishedAt == nil:
		t.FinishedAt = now.TimeOrNil()
	}
}

// responseRow is a row of responses.
type responseRow struct {
	tasker.Response
	// expiresAt is the receive deadline until the order was received.
	expiresAt sqldb.Micros
	sendTimes

	// countedStatus is the status as counted in the task; empty if the row is new.
	countedStatus tasker.ResponseStatus
	// dirty: to be written. changed: to be written with the task's new version.
	dirty, changed bool
}

// The columns of responses: all, and those of a new row. The key comes first.
//
//nolint:gochecknoglobals // constant
var (
	responseColumns = sqldb.NewColumns(
		sqldb.Text("task_id", func(r *responseRow) *string { return &r.TaskID }),
		sqldb.Text("endpoint", func(r *responseRow) *string { return &r.Endpoint }),
		sqldb.Text("status", func(r *responseRow) *tasker.ResponseStatus { return &r.Status }),
		sqldb.Field("attempt", func(r *responseRow) *int { return &r.Attempt }),
		sqldb.Field("seq", func(r *responseRow) *int64 { return &r.Seq }),
		sqldb.Text("reason", func(r *responseRow) *string { return &r.Reason }),
		sqldb.Text("error", func(r *responseRow) *string { return &r.Error }),
		sqldb.JSONText("result", func(r *responseRow) *json.RawMessage { return &r.Result }).Optional(),
		sqldb.Field("exit_code", func(r *responseRow) **int { return &r.ExitCode }).Optional(),
		sqldb.JSON("progress", func(r *responseRow) **tasker.Progress { return &r.Progress }).Optional(),
		sqldb.Field("presumed", func(r *responseRow) *bool { return &r.Presumed }),
		sqldb.Field("late", func(r *responseRow) *bool { return &r.Late }),
		sqldb.TimeOrNull("sent_at", func(r *responseRow) **time.Time { return &r.SentAt }).Optional(),
		sqldb.TimeOrNull("received_at", func(r *responseRow) **time.Time { return &r.ReceivedAt }).Optional(),
		sqldb.TimeOrNull("started_at", func(r *responseRow) **time.Time { return &r.StartedAt }).Optional(),
		sqldb.TimeOrNull("finished_at", func(r *responseRow) **time.Time { return &r.FinishedAt }).Optional(),
		sqldb.Field("output_bytes", func(r *responseRow) *int64 { return &r.OutputBytes }),
		sqldb.Field("output_truncated", func(r *responseRow) *bool { return &r.OutputTruncated }),
		sqldb.Field("expires_at", func(r *responseRow) *sqldb.Micros { return &r.expiresAt }),
		sqldb.Field("next_send_at", func(r *responseRow) *sqldb.Micros { return &r.nextSendAt }),
		sqldb.Field("send_tries", func(r *responseRow) *int { return &r.sendTries }),
		sqldb.Field("cancel_send_at", func(r *responseRow) *sqldb.Micros { return &r.cancelSendAt }).Optional(),
		sqldb.Field("cancel_tries", func(r *responseRow) *int { return &r.cancelTries }),
		sqldb.Field("version", func(r *responseRow) *int64 { return &r.Version }),
		sqldb.Field("wave", func(r *responseRow) *int { return &r.Wave }),
	)
	newResponseColumns = responseColumns.Required()
)

// responseKeyColumns is how many columns the key of responses has.
const responseKeyColumns = 2

// clearTimers clears the deadlines and orders that no longer apply in the
// response's status.
func (r *responseRow) clearTimers() {
	if r.Status.Rank() >= tasker.Received.Rank() {
		r.expiresAt, r.nextSendAt = 0, 0
	}
	if r.Status.Ended() {
		r.cancelSendAt = 0
	}
}

// releasedAt is the earliest moment at which the order of the row's attempt can
// have been received.
func (r *responseRow) releasedAt(t *taskRow) sqldb.Micros {
	if r.expiresAt != 0 {
		return r.expiresAt.Add(-t.ReceiveTimeout.D())
	}
	return sqldb.MicrosOf(t.CreatedAt)
}
