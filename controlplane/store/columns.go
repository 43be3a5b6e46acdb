package store

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// micros is a moment as stored: microseconds since 1970 UTC; zero is null.
type micros int64

func microsOf(t time.Time) micros { return micros(t.UnixMicro()) }

func microsAt(t *time.Time) micros {
	if t == nil {
		return 0
	}
	return microsOf(*t)
}

func (m micros) time() time.Time { return time.UnixMicro(int64(m)).UTC() }

func (m micros) at() *time.Time {
	if m == 0 {
		return nil
	}
	t := m.time()
	return &t
}

func (m micros) add(d time.Duration) micros { return m + micros(d.Microseconds()) }

// Scan reads a column.
func (m *micros) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*m = 0
	case int64:
		*m = micros(v)
	case []byte:
		if _, err := fmt.Sscan(string(v), (*int64)(m)); err != nil {
			return fmt.Errorf("read a time: %w", err)
		}
	default:
		return fmt.Errorf("read a time: it is a %T", v)
	}
	return nil
}

// Value writes a column.
func (m micros) Value() (driver.Value, error) {
	if m == 0 {
		return nil, nil
	}
	return int64(m), nil
}

// scanner is a row that is being read.
type scanner interface{ Scan(dest ...any) error }

// taskRow is a row of tasks. Without its body, payload and endpoints are absent.
type taskRow struct {
	tasker.Task
	broadcast bool
	// sent: a broadcast was handed to the transport.
	sent    bool
	attempt int
	// closesAt is the receive deadline of a broadcast until it has passed.
	closesAt     micros
	nextSendAt   micros
	tries        int
	cancelSendAt micros
	cancelTries  int
	pacing       pacing
	paused       bool

	// dirty: to be written; changed: to be seen by watchers, with a new version.
	dirty, changed bool
	// was is whether it had finished when it was read; stored are its changes of then.
	was    bool
	stored []any
	// wasStatus and wasPaused are what it was when it was read.
	wasStatus tasker.TaskStatus
	wasPaused bool
}

const (
	taskState = `id, type, identifier, status, reason, counts, attempt, receive_timeout, receive_deadline, timeout,
		created_at, finished_at, cancel_requested_at, cancel_requested_by, broadcast, broadcast_sent, closes_at,
		next_send_at, send_tries, cancel_send_at, cancel_tries, version, labels, action, undoes, not_before, pacing, paused, callback`
	taskBody = taskState + ", payload, endpoints"
)

func scanTask(row scanner, body bool) (*taskRow, error) {
	var (
		t                                        taskRow
		counts, payload, endpoints               []byte
		receiveTimeout, timeout                  int64
		deadline, created, finished, cancelledAt micros
		notBefore                                micros
		callback                                 []byte
	)
	dest := []any{
		&t.ID, &t.Type, &t.Identifier, &t.Status, &t.Reason, &counts, &t.attempt, &receiveTimeout, &deadline, &timeout,
		&created, &finished, &cancelledAt, &t.CancelRequestedBy, &t.broadcast, &t.sent, &t.closesAt,
		&t.nextSendAt, &t.tries, &t.cancelSendAt, &t.cancelTries, &t.Version, &t.Labels, &t.Action, &t.Undoes, &notBefore, &t.pacing, &t.paused, &callback,
	}
	if body {
		dest = append(dest, &payload, &endpoints)
	}
	if err := row.Scan(dest...); err != nil {
		return nil, fmt.Errorf("read a task: %w", err)
	}
	t.Counts = tasker.Counts{}
	if err := json.Unmarshal(counts, &t.Counts); err != nil {
		return nil, fmt.Errorf("read the counts of task %s: %w", t.ID, err)
	}
	if callback != nil {
		if err := json.Unmarshal(callback, &t.Callback); err != nil {
			return nil, fmt.Errorf("read the callback of task %s: %w", t.ID, err)
		}
	}
	t.Payload = payload
	if endpoints != nil {
		if err := json.Unmarshal(endpoints, &t.Endpoints); err != nil {
			return nil, fmt.Errorf("read the endpoints of task %s: %w", t.ID, err)
		}
	}
	t.ReceiveTimeout = tasker.Duration(receiveTimeout * int64(time.Microsecond))
	t.Timeout = tasker.Duration(timeout * int64(time.Microsecond))
	t.ReceiveDeadline, t.CreatedAt = deadline.time(), created.time()
	t.FinishedAt, t.CancelRequestedAt = finished.at(), cancelledAt.at()
	t.NotBefore = notBefore.at()
	t.was, t.wasStatus, t.wasPaused = t.Counts.Finished(t.flags()), t.Status, t.paused
	return &t, nil
}

// deadline is the receive deadline of the task's last attempt.
func (t *taskRow) deadline() micros { return microsOf(t.ReceiveDeadline) }

func (t *taskRow) flags() tasker.Flags {
	return tasker.Flags{Cancel: t.CancelRequestedAt != nil, Pause: t.paused, Open: t.closesAt != 0, Sent: t.sent}
}

// responseRow is a row of responses.
type responseRow struct {
	tasker.Response
	// expiresAt is the receive deadline until it was received.
	expiresAt    micros
	nextSendAt   micros
	tries        int
	cancelSendAt micros
	cancelTries  int

	// was is the status as counted in the task; empty if it was not stored.
	was            tasker.ResponseStatus
	dirty, changed bool
}

const responseState = `task_id, endpoint, status, attempt, seq, reason, error, result, exit_code, progress,
	presumed, late, sent_at, received_at, started_at, finished_at, output_bytes, output_truncated,
	expires_at, next_send_at, send_tries, cancel_send_at, cancel_tries, version, wave`

func scanResponse(row scanner) (*responseRow, error) {
	var (
		r                                 responseRow
		result, progress                  []byte
		sent, received, started, finished micros
	)
	err := row.Scan(&r.TaskID, &r.Endpoint, &r.Status, &r.Attempt, &r.Seq, &r.Reason, &r.Error, &result, &r.ExitCode, &progress,
		&r.Presumed, &r.Late, &sent, &received, &started, &finished, &r.OutputBytes, &r.OutputTruncated,
		&r.expiresAt, &r.nextSendAt, &r.tries, &r.cancelSendAt, &r.cancelTries, &r.Version, &r.Wave)
	if err != nil {
		return nil, fmt.Errorf("read a response: %w", err)
	}
	r.Result = result
	if progress != nil {
		r.Progress = new(tasker.Progress)
		if err := json.Unmarshal(progress, r.Progress); err != nil {
			return nil, fmt.Errorf("read the progress of task %s on %s: %w", r.TaskID, r.Endpoint, err)
		}
	}
	r.SentAt, r.ReceivedAt, r.StartedAt, r.FinishedAt = sent.at(), received.at(), started.at(), finished.at()
	r.was = r.Status
	return &r, nil
}

// values are the row's columns in the order of responseState.
func (r *responseRow) values() ([]any, error) {
	var progress any
	if r.Progress != nil {
		b, err := json.Marshal(r.Progress)
		if err != nil {
			return nil, fmt.Errorf("write the progress of task %s on %s: %w", r.TaskID, r.Endpoint, err)
		}
		progress = string(b)
	}
	return []any{
		r.TaskID, r.Endpoint, string(r.Status), r.Attempt, r.Seq, r.Reason, r.Error, blob(r.Result), r.ExitCode, progress,
		r.Presumed, r.Late, microsAt(r.SentAt), microsAt(r.ReceivedAt), microsAt(r.StartedAt), microsAt(r.FinishedAt),
		r.OutputBytes, r.OutputTruncated,
		r.expiresAt, r.nextSendAt, r.tries, r.cancelSendAt, r.cancelTries, r.Version, r.Wave,
	}, nil
}

// blob makes of absent bytes a null.
func blob(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

func (m micros) rfc3339() string { return m.time().Format(time.RFC3339) }
