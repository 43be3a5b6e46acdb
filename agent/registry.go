package agent

import (
	"slices"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
)

// registry holds the assignments and tombstones that are in the journal, by task.
type registry struct {
	// mu guards the tasks, the run queues and the variable fields of assignments.
	mu    sync.Mutex
	tasks map[string]*task
	// sequence is the number of assignments that were added.
	sequence uint64
}

// task is what the agent stores about one task.
type task struct {
	// attempts are the assignments in the journal, in ascending order.
	attempts []*assignment
	// tombstone is the highest cancelled attempt; zero if none was cancelled.
	tombstone         int
	tombstoneDeadline time.Time
	// running means that an attempt is performed. Other attempts wait until it ends.
	running bool
}

func newRegistry() *registry { return &registry{tasks: map[string]*task{}} }

// latest returns the highest attempt that was accepted.
func (t *task) latest() int {
	if t == nil || len(t.attempts) == 0 {
		return 0
	}
	return t.attempts[len(t.attempts)-1].ref.Attempt
}

func (t *task) find(attempt int) *assignment {
	if t == nil {
		return nil
	}
	for _, a := range t.attempts {
		if a.ref.Attempt == attempt {
			return a
		}
	}
	return nil
}

// isSuperseded reports whether an attempt was cancelled or a later one was accepted.
func (t *task) isSuperseded(attempt int) bool {
	return t.tombstone >= attempt || t.latest() > attempt
}

func (r *registry) taskLocked(id string) *task {
	t := r.tasks[id]
	if t == nil {
		t = &task{}
		r.tasks[id] = t
	}
	return t
}

// addLocked adds an assignment that is in the journal.
func (r *registry) addLocked(a *assignment) {
	r.sequence++
	a.sequence = r.sequence
	t := r.taskLocked(a.ref.TaskID)
	t.attempts = append(t.attempts, a)
	slices.SortFunc(t.attempts, func(x, y *assignment) int { return x.ref.Attempt - y.ref.Attempt })
}

// addTombstoneLocked adds a tombstone that is in the journal.
func (r *registry) addTombstoneLocked(s journal.Tombstone) {
	if t := r.taskLocked(s.TaskID); s.Attempt > t.tombstone {
		t.tombstone, t.tombstoneDeadline = s.Attempt, s.Deadline
	}
}

// selectLocked returns the assignments for which match returns true.
func (r *registry) selectLocked(match func(*assignment) bool) []*assignment {
	var selected []*assignment
	for _, t := range r.tasks {
		for _, a := range t.attempts {
			if match(a) {
				selected = append(selected, a)
			}
		}
	}
	return selected
}

// unfinished lists the assignments whose final update was not delivered.
func (r *registry) unfinished() []tasker.AssignmentRef {
	r.mu.Lock()
	defer r.mu.Unlock()
	refs := []tasker.AssignmentRef{}
	for _, a := range r.selectLocked(func(a *assignment) bool { return !a.delivered }) {
		refs = append(refs, a.ref)
	}
	return refs
}

// forget removes assignments that were removed from the journal, and the tombstones
// whose deadline is before the given time.
func (r *registry) forget(refs []journal.Ref, before time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ref := range refs {
		if t := r.tasks[ref.TaskID]; t != nil {
			t.attempts = slices.DeleteFunc(t.attempts, func(a *assignment) bool { return a.ref == ref })
		}
	}
	for id, t := range r.tasks {
		if t.tombstone > 0 && t.tombstoneDeadline.Before(before) {
			t.tombstone = 0
		}
		r.dropIfEmptyLocked(id, t)
	}
}

func (r *registry) dropIfEmptyLocked(id string, t *task) {
	if len(t.attempts) == 0 && t.tombstone == 0 && !t.running {
		delete(r.tasks, id)
	}
}
