package tasker

// TaskStatus is the status of a task as a whole.
type TaskStatus string

// The statuses of a task.
const (
	TaskPending    TaskStatus = "pending"
	TaskSent       TaskStatus = "sent"
	TaskRunning    TaskStatus = "running"
	TaskPaused     TaskStatus = "paused"
	TaskSucceeded  TaskStatus = "succeeded"
	TaskFailed     TaskStatus = "failed"
	TaskIncomplete TaskStatus = "incomplete"
	TaskCancelled  TaskStatus = "cancelled"
)

// TaskStatuses lists every status of a task, in the order of a task's life.
func TaskStatuses() []TaskStatus {
	return []TaskStatus{
		TaskPending, TaskSent, TaskRunning, TaskPaused,
		TaskSucceeded, TaskFailed, TaskIncomplete, TaskCancelled,
	}
}

// Counts maps each status to the number of responses of one task. Absent means zero.
type Counts map[ResponseStatus]int

// Total returns the number of responses.
func (c Counts) Total() int {
	n := 0
	for _, k := range c {
		n += k
	}
	return n
}

// Ended returns the number of responses that have ended.
func (c Counts) Ended() int {
	n := 0
	for s, k := range c {
		if s.Ended() {
			n += k
		}
	}
	return n
}

// Failures returns the number of responses that count against a rollout's failure
// budget: responses that have ended with any status other than succeeded or skipped.
func (c Counts) Failures() int { return c.Ended() - c[Succeeded] - c[Skipped] }

// Transition moves one response to another status; an empty from adds a response.
// Transition deletes counts that become zero, so that equal counts compare equal.
func (c Counts) Transition(from, to ResponseStatus) {
	if from != "" {
		if c[from]--; c[from] == 0 {
			delete(c, from)
		}
	}
	c[to]++
}

// Flags are the properties that the status of a task depends on beside its responses.
type Flags struct {
	// Cancel is true if the task was cancelled.
	Cancel bool
	// Pause is true if the rollout is paused.
	Pause bool
	// Open is true for a broadcast before its receive deadline: further responses may
	// appear.
	Open bool
	// Sent is true if a broadcast was passed to the transport.
	Sent bool
}

// Finished reports whether every response has ended and no further response can
// appear.
func (c Counts) Finished(f Flags) bool { return !f.Open && c.Ended() == c.Total() }

// TaskStatus derives the status of a task. The first matching rule decides: a task
// becomes failed after its last response has ended, but incomplete as soon as one
// endpoint has missed the receive deadline.
func (c Counts) TaskStatus(f Flags) TaskStatus {
	switch {
	case c[Missing] > 0:
		return TaskIncomplete
	case c.Finished(f):
		return c.finalStatus(f)
	case f.Pause:
		return TaskPaused
	case c[Received] > 0 || c[Running] > 0 || c.Ended() > 0:
		return TaskRunning
	case c[Sent] > 0 || f.Sent:
		return TaskSent
	default:
		return TaskPending
	}
}

// finalStatus derives the status of a finished task without missing responses.
func (c Counts) finalStatus(f Flags) TaskStatus {
	total := c.Total()
	switch {
	case total == 0 && !f.Cancel:
		return TaskIncomplete // no endpoint received the broadcast
	case total > 0 && c[Succeeded] == total:
		return TaskSucceeded
	case f.Cancel:
		return TaskCancelled
	default:
		return TaskFailed
	}
}
