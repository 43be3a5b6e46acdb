// Package store keeps tasks, responses and endpoints in SQLite or MySQL. It is
// the only home of SQL. Every method is one transaction (or one query), safe for
// concurrent use, also by several control planes on one MySQL.
//
// The rows are the outbox: a task or response whose next_send_at is not after
// the database's clock is due to be sent.
package store

import (
	"errors"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// The errors of this package; match them with errors.Is.
var (
	// ErrNotFound: no such task, response or endpoint.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the identifier is taken by a task with another body.
	ErrConflict = errors.New("identifier is taken by a different task")
	// ErrOpen: an attempt is still open, so no new one can begin.
	ErrOpen = errors.New("the last attempt has not ended")
	// ErrNothingToRetry: every response succeeded.
	ErrNothingToRetry = errors.New("nothing to retry")
	// ErrNoRollout: the task is not performed in waves.
	ErrNoRollout = errors.New("is not a rollout")
	// ErrOver: the rollout is over.
	ErrOver = errors.New("the rollout is over")
	// ErrNotPaused: the rollout is not paused.
	ErrNotPaused = errors.New("the rollout is not paused")
	// ErrUndoing: the task is being undone, so it cannot be tried again yet.
	ErrUndoing = errors.New("the task is being undone; retry it when that has ended")
	// ErrNothingToUndo: the task has started nowhere.
	ErrNothingToUndo = errors.New("the task was started nowhere, so there is nothing to undo")
	// ErrLease: another process leads, or the lease has run out.
	ErrLease = errors.New("the lease is not held")
	// ErrCursor: the cursor of a list is not one that a page gave.
	ErrCursor = errors.New("cursor is not one that a page gave")
	// ErrUnavailable: the database cannot be reached now.
	ErrUnavailable = errors.New("database is unavailable")
	// ErrToken: an enrolment token is not valid (any more).
	ErrToken = errors.New("the enrolment token is not valid")
	// ErrTaken: another server has the endpoint's name.
	ErrTaken = errors.New("is taken")
	// ErrRevoked: the endpoint's secret was revoked.
	ErrRevoked = errors.New("its secret was revoked")
	// ErrSchema: the tables are missing or of another version.
	ErrSchema = errors.New("database schema")
)

// Options say what to open.
type Options struct {
	// URI is "sqlite:FILE" (relative to DataDir) or
	// "mysql://user:password@host:port/database".
	URI     string
	DataDir string
	// Types are the configured task types.
	Types []tasker.TaskType
	// Heartbeat is the interval at which agents are told to send heartbeats; an
	// endpoint is connected while it is not silent for three of them.
	Heartbeat time.Duration
	// Clock replaces the database's clock, for tests.
	Clock func() time.Time
	// OnCommit is called after each commit that changed a task. It must not block.
	OnCommit func(Commit)
	// Sends, if set, is asked before so many new orders are stored whether this
	// process will send them without looking for them: then OnCommit is given them
	// as Claims. It must not block.
	Sends func(orders int) bool
	// MarkPatience is for how long MarkSent waits for the first report on what was
	// sent, which makes its own writing needless; as long as reports come, it waits
	// up to eight times as long.
	MarkPatience time.Duration
}

// Commit says what a transaction changed.
type Commit struct {
	// Tasks are the ids of the tasks that changed.
	Tasks []string
	// Due: there is something to send now.
	Due bool
	// Rollouts: there is a rollout to look at now.
	Rollouts bool
	// Callbacks: there is something to tell now.
	Callbacks bool
	// Claims are new orders that this process is to send. They are held, so that
	// they are due by themselves if it dies before it has.
	Claims []Claim
}

// NewTask is a checked and authorised request.
type NewTask struct {
	Identifier string
	Type       string
	Payload    []byte
	// Endpoints is nil for a broadcast.
	Endpoints      []string
	ReceiveTimeout time.Duration
	Timeout        time.Duration
	// Labels is the selector by which some of the endpoints were found, for people.
	Labels string
	// Action and Undoes are as in tasker.Task.
	Action tasker.Action
	Undoes string
	// NotBefore is when the task begins; nil is at once.
	NotBefore *time.Time
	// Rollout is how it is performed in waves, in the order of Endpoints, which then
	// are not nil; nil is all at once.
	Rollout *tasker.RolloutSpec
	// Callback is who is told what becomes of it; nil is nobody.
	Callback *tasker.Callback
	// Fingerprint is the SHA-256 of the canonical request.
	Fingerprint [32]byte
}

// TaskQuery selects tasks, newest first.
type TaskQuery struct {
	Type string
	// Status is any when empty.
	Status tasker.TaskStatus
	Limit  int
	// Cursor is Page.Next of the page before.
	Cursor string
}

// TaskPage is one page of tasks.
type TaskPage struct {
	Tasks []tasker.Task
	// Next is empty on the last page.
	Next string
}

// Claim is one order that is due, held for ClaimHold by whoever claimed it.
type Claim struct {
	Order tasker.Order
	// TaskID, Endpoint (empty for a broadcast) and Attempt name the row, Cancel
	// says which of its two orders this is.
	TaskID   string
	Endpoint string
	Attempt  int
	Cancel   bool
	// Tries is how often this order was claimed before.
	Tries int

	// held is what the claim wrote as the time of the next try. If the row has
	// another one when the claim is settled, it was made due again meanwhile, and
	// stays so. Zero settles it anyway.
	held micros
}

// ClaimHold is how long a claim keeps a row from being claimed again: well below the
// usual receive timeout of 30 s, so that another control plane sends in time what one
// that died had claimed, and above what a broker that is busy takes for a full outbox.
const ClaimHold = 20 * time.Second

// Unsent is a claim whose order did not pass, and why.
type Unsent struct {
	Claim
	// Reason is for people: "unroutable", "offline since 2026-01-02T03:04:05Z".
	Reason string
	// After is the back-off before the next try.
	After time.Duration
}

// Applied says what became of a batch of reports.
type Applied struct {
	// Orders are to be sent in answer: welcomes, and assignments of open
	// broadcasts for those who came late.
	Orders []tasker.Order
	// Updates counts the updates by outcome: applied, stale, unknown.
	Updates map[string]int
	// Finished are the tasks that this batch ended, without payload and endpoints.
	Finished []tasker.Task
}

// Output is what a handler printed, as far as it was kept.
type Output struct {
	Endpoint  string
	Attempt   int
	Chunks    []tasker.Chunk
	Bytes     int64
	Truncated bool
}

// Stats are the numbers shown as metrics.
type Stats struct {
	// Due is the number of orders that are due now.
	Due int
	// OldestDue is how long the oldest of them has been due.
	OldestDue time.Duration
	// Connected is the number of connected endpoints.
	Connected int
	// Open is the number of tasks that have not finished.
	Open int
	// Rollouts is the number of rollouts in each state that is not over.
	Rollouts map[tasker.RolloutState]int
	// Callbacks is the number of callbacks that are not delivered yet.
	Callbacks int
}
