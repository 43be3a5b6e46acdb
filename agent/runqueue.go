package agent

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// runQueue holds the assignments of one type that wait, and counts those that run.
type runQueue struct {
	waiting []*assignment
	running int
}

// scheduler starts the assignments in the run queues: per type in the order of
// acceptance and up to Options.Concurrency, and one attempt of a task at a time.
type scheduler struct {
	*shared
	performer *performer
	// performing counts the goroutines in which handlers run.
	performing sync.WaitGroup

	// The registry's mutex guards the following fields.

	queues map[string]*runQueue
	// base is the context of all handlers; nil until open.
	base context.Context
	// stopping means that no more handlers are started.
	stopping bool
}

func (s *scheduler) queueLocked(taskType string) *runQueue {
	q := s.queues[taskType]
	if q == nil {
		q = &runQueue{}
		s.queues[taskType] = q
	}
	return q
}

// pushLocked adds an assignment to the run queue of its type.
func (s *scheduler) pushLocked(a *assignment) {
	q := s.queueLocked(a.taskType)
	a.waiting = true
	q.waiting = append(q.waiting, a)
	if n := len(q.waiting); n > 1 && q.waiting[n-2].sequence > a.sequence {
		slices.SortFunc(q.waiting, func(x, y *assignment) int { return int(int64(x.sequence) - int64(y.sequence)) })
	}
	s.opts.Metrics.setQueue(a.taskType, q)
}

func (s *scheduler) removeLocked(a *assignment) {
	q := s.queues[a.taskType]
	a.waiting = false
	q.waiting = slices.DeleteFunc(q.waiting, func(x *assignment) bool { return x == a })
	s.opts.Metrics.setQueue(a.taskType, q)
}

// open starts the handlers of the assignments that wait, and of all that follow.
func (s *scheduler) open(base context.Context) {
	s.registry.mu.Lock()
	s.base = base
	types := slices.Collect(maps.Keys(s.queues))
	s.registry.mu.Unlock()
	s.schedule(types...)
}

// schedule starts as many assignments of the types as may run.
func (s *scheduler) schedule(types ...string) {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	if s.base == nil || s.stopping {
		return
	}
	for _, taskType := range types {
		q := s.queues[taskType]
		if q == nil {
			continue
		}
		for q.running < s.opts.Concurrency {
			a := s.popLocked(q)
			if a == nil {
				break
			}
			s.occupyLocked(q, a)
			s.launchLocked(a)
		}
	}
}

// popLocked removes and returns the first assignment of which no other attempt runs.
func (s *scheduler) popLocked(q *runQueue) *assignment {
	i := slices.IndexFunc(q.waiting, func(a *assignment) bool { return !s.registry.tasks[a.ref.TaskID].running })
	if i < 0 {
		return nil
	}
	a := q.waiting[i]
	if i == 0 { // nearly always; and cutting off the front moves nothing
		q.waiting[0], q.waiting = nil, q.waiting[1:]
	} else {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	a.waiting = false
	return a
}

func (s *scheduler) occupyLocked(q *runQueue, a *assignment) {
	q.running++
	s.registry.taskLocked(a.ref.TaskID).running = true
	s.performing.Add(1)
}

// reserveLocked occupies a slot for an assignment that is not in the registry yet. It
// reports whether the assignment may start at once.
func (s *scheduler) reserveLocked(a *assignment) bool {
	q, t := s.queueLocked(a.taskType), s.registry.tasks[a.ref.TaskID]
	if s.base == nil || s.stopping || len(q.waiting) > 0 || q.running >= s.opts.Concurrency || t != nil && t.running {
		return false
	}
	s.occupyLocked(q, a)
	return true
}

// releaseLocked frees the slot of an assignment that could not be recorded.
func (s *scheduler) releaseLocked(a *assignment) {
	s.queues[a.taskType].running--
	t := s.registry.tasks[a.ref.TaskID]
	t.running = false
	s.registry.dropIfEmptyLocked(a.ref.TaskID, t)
	s.performing.Done()
}

// launchLocked performs an assignment that occupies a slot.
func (s *scheduler) launchLocked(a *assignment) {
	ctx, cancel := context.WithCancelCause(s.base)
	a.cancel = cancel
	if a.detached && s.registry.tasks[a.ref.TaskID].isSuperseded(a.ref.Attempt) {
		cancel(handlers.ErrCancelled)
	}
	if s.stopping && s.opts.Handlers.Detached(a.handler) {
		cancel(handlers.ErrStopping)
	}
	s.opts.Metrics.setQueue(a.taskType, s.queues[a.taskType])
	go func() {
		defer s.performing.Done()
		defer cancel(nil)
		s.performer.perform(ctx, a)
		s.vacate(a)
	}()
}

// vacate frees the slot of an assignment that was performed, and starts the next ones.
func (s *scheduler) vacate(a *assignment) {
	s.registry.mu.Lock()
	q := s.queues[a.taskType]
	q.running--
	a.cancel, a.payload = nil, nil
	a.output.Store(nil)
	types := []string{a.taskType}
	if t := s.registry.tasks[a.ref.TaskID]; t != nil {
		t.running = false
		// By mistake, a later attempt may have another type.
		for _, next := range t.attempts {
			if next.taskType != a.taskType {
				types = append(types, next.taskType)
			}
		}
	}
	s.opts.Metrics.setQueue(a.taskType, q)
	s.registry.mu.Unlock()
	s.schedule(types...)
}

// cancelLocked cancels the attempts of a task up to one of them. It returns those that
// have not started, removed from their queues, for the caller to end. It leaves
// assignments that are held, that an earlier agent process has started, or that are
// detached to the restarter and the handlers.
func (s *scheduler) cancelLocked(taskID string, upTo int, reason string) []ending {
	var endings []ending
	for _, a := range s.registry.tasks[taskID].attempts {
		switch {
		case a.ref.Attempt > upTo || a.ended:
		case a.cancel != nil:
			if a.cancelReason == "" {
				a.cancelReason = reason
			}
			a.cancel(handlers.ErrCancelled)
		case a.waiting && !a.detached:
			s.removeLocked(a)
			a.cancelReason = reason
			endings = append(endings, ending{a, notStarted()})
		}
	}
	return endings
}

// stop starts no more handlers.
func (s *scheduler) stop() {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	s.stopping = true
}

// interrupt stops the running handlers that match, and returns their number.
func (s *scheduler) interrupt(match func(*assignment) bool) int {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	running := s.registry.selectLocked(func(a *assignment) bool { return a.cancel != nil && match(a) })
	for _, a := range running {
		a.cancel(handlers.ErrStopping)
	}
	return len(running)
}

// interruptAll interrupts all running handlers, and returns their number. It also returns
// the assignments that have not started, removed from their queues, for the caller to end.
func (s *scheduler) interruptAll() (running int, waiting []ending) {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	for _, a := range s.registry.selectLocked(func(a *assignment) bool { return !a.ended && (a.cancel != nil || a.waiting) }) {
		if a.waiting {
			s.removeLocked(a)
			waiting = append(waiting, ending{a, outcome{status: tasker.Interrupted, reason: reasonRefused}})
			continue
		}
		a.cancel(handlers.ErrUnauthorized)
		running++
	}
	return running, waiting
}

// counts returns how many assignments run and wait.
func (s *scheduler) counts() (running, waiting int) {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	for _, q := range s.queues {
		running += q.running
		waiting += len(q.waiting)
	}
	return running, waiting
}
