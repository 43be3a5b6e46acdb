package tasker

// TaskStatus says where a task as a whole stands.
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

// Counts is the number of responses of one task in each status. Absent means none.
type Counts map[ResponseStatus]int

// Total is the number of responses.
func (c Counts) Total() int {
	n := 0
	for _, k := range c {
		n += k
	}
	return n
}

// Ended is the number of responses that have ended.
func (c Counts) Ended() int {
	n := 0
	for s, k := range c {
		if s.Ended() {
			n += k
		}
	}
	return n
}

// Transition takes one response from one status to another; an empty from adds it.
// A count that falls to zero is deleted, so that equal counts compare equal.
func (c Counts) Transition(from, to ResponseStatus) {
	if from != "" {
		if c[from]--; c[from] == 0 {
			delete(c, from)
		}
	}
	c[to]++
}

// Flags are the facts about a task that its responses do not show.
type Flags struct {
	// Cancel: somebody asked for the task to be cancelled.
	Cancel bool
	// Pause: a rollout stands still between two waves.
	Pause bool
	// Open: a broadcast whose receive deadline has not passed, so that
	// further responses may still appear.
	Open bool
	// Sent: a broadcast was handed to the transport.
	Sent bool
}

// Finished says whether nothing is left to wait for: every response has ended
// and no further one can appear.
func (c Counts) Finished(f Flags) bool { return !f.Open && c.Ended() == c.Total() }

// TaskStatus derives a task's status. The first rule that matches wins, so
// failed is never said while a response is open, and incomplete is said as soon
// as one endpoint is known not to have received the task.
func (c Counts) TaskStatus(f Flags) TaskStatus {
	total, ended, finished := c.Total(), c.Ended(), c.Finished(f)
	switch {
	case c[Missing] > 0:
		return TaskIncomplete
	case finished && total == 0 && !f.Cancel:
		return TaskIncomplete // a broadcast that nobody received
	case finished && total > 0 && c[Succeeded] == total:
		return TaskSucceeded
	case finished && f.Cancel:
		return TaskCancelled
	case finished:
		return TaskFailed
	case f.Pause:
		return TaskPaused
	case c[Received] > 0 || c[Running] > 0 || ended > 0:
		return TaskRunning
	case c[Sent] > 0 || f.Sent:
		return TaskSent
	default:
		return TaskPending
	}
}
