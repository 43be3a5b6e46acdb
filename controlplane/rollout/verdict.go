package rollout

import "context"

// question is one to the gate of a rollout.
type question struct {
	// version is that of the task when it was asked.
	version int64
	// cancel ends the asking.
	cancel context.CancelFunc
	// verdict is the answer; nil until it has come.
	verdict *Verdict
}

// at is the answer for a task that is at this version, nil if there is none. To one
// that has changed since, been paused and resumed say, an answer says nothing: the
// gate has to be asked anew.
func (q *question) at(version int64) *Verdict {
	if q == nil || q.version != version {
		return nil
	}
	return q.verdict
}

// heard is the question of a rollout that was answered, once; nil if none was.
func (e *Engine) heard(id string) *question {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.questions[id]
	if q == nil || q.verdict == nil {
		return nil
	}
	delete(e.questions, id)
	return q
}

// ask has the gate before which a rollout stands asked meanwhile, unless it is
// already, so that one that is slow holds up no other rollout; Run looks again when
// it has answered.
func (e *Engine) ask(ctx context.Context, id string) error {
	g, err := e.opts.Plans.GatingRollout(ctx, id)
	if err != nil || g == nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if q := e.questions[id]; q != nil {
		if q.version == g.Version {
			return nil
		}
		q.cancel() // its answer would say nothing
	}
	ctx, cancel := context.WithCancel(ctx)
	q := &question{version: g.Version, cancel: cancel}
	e.questions[id] = q
	e.asking.Go(func() {
		defer cancel()
		holds, why, err := e.opts.Gates.Ask(ctx, g.Gate, g.Endpoints)
		e.answer(id, q, Verdict{Holds: holds, Why: why}, err)
	})
	return nil
}

// answer keeps what a gate has answered, unless it is asked anew already.
func (e *Engine) answer(id string, q *question, v Verdict, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.questions[id] != q:
	case err != nil: // Run ends
		delete(e.questions, id)
	default:
		q.verdict = &v
		e.Wake()
	}
}

// answered are the rollouts whose gates have answered.
func (e *Engine) answered() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []string
	for id, q := range e.questions {
		if q.verdict != nil {
			ids = append(ids, id)
		}
	}
	return ids
}
