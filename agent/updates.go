package agent

import (
	"context"
	"errors"
	"slices"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// The bounds of one batch of updates.
const (
	maxBatch      = 64
	maxBatchBytes = 1 << 20
)

// updateSender sends the updates of assignments in batches.
type updateSender struct {
	*shared
}

// pendingUpdate is the update of an assignment in a batch.
type pendingUpdate struct {
	assignment *assignment
	update     tasker.Update
	// final means that the assignment has ended.
	final bool
}

// send sends the state of assignments. It puts those whose update was not sent back
// into the queue.
func (s *updateSender) send(ctx context.Context, assignments []*assignment) {
	batch, rest := s.compose(assignments)
	s.reports.add(rest...)
	if len(batch) == 0 {
		return
	}
	var errs []error
	if err := s.recordProgress(batch); err != nil {
		errs = slices.Repeat([]error{err}, len(batch))
	} else {
		errs = s.deliver(ctx, batch)
	}
	var retries, final []*assignment
	var reason error
	for i, u := range batch {
		switch retry := s.handleResult(u, errs[i]); {
		case retry:
			retries, reason = append(retries, u.assignment), errs[i]
		case u.final:
			final = append(final, u.assignment)
		}
	}
	if err := s.confirm(final); err != nil {
		retries, reason = append(retries, final...), err
	}
	s.retry(ctx, retries, reason)
}

// compose makes the updates of assignments, as many as fit into a batch. It returns
// the other assignments as rest.
func (s *updateSender) compose(assignments []*assignment) (batch []pendingUpdate, rest []*assignment) {
	total := 0
	for i, a := range assignments {
		if total > maxBatchBytes {
			return batch, assignments[i:]
		}
		u, ok := s.makeUpdate(a)
		if !ok {
			continue
		}
		total += size(u.update)
		batch = append(batch, u)
	}
	return batch, nil
}

// size returns the number of bytes in the fields of an update that may be large.
func size(u tasker.Update) int {
	n := len(u.Result)
	for _, c := range u.Output {
		n += len(c.Data)
	}
	return n
}

// makeUpdate returns the current update of an assignment; false if it has none.
func (s *updateSender) makeUpdate(a *assignment) (pendingUpdate, bool) {
	s.registry.mu.Lock()
	if a.phase == journal.Ended && a.finalUpdate == nil {
		s.registry.mu.Unlock()
		u, err := s.opts.Journal.Report(a.ref)
		if err != nil {
			a.logger(s.opts.Log).Warn("cannot read a report from the journal", "error", err)
			return pendingUpdate{}, false
		}
		return pendingUpdate{assignment: a, update: u, final: true}, true
	}
	defer s.registry.mu.Unlock()
	switch {
	case a.phase == journal.Ended:
		return pendingUpdate{assignment: a, update: *a.finalUpdate, final: true}, true
	case a.ended, a.phase == journal.Held:
		return pendingUpdate{}, false
	}
	if p := a.progress.Load(); p != nil {
		a.update.Progress = p
	}
	a.update.Seq = s.opts.Journal.Seq()
	u := a.update
	if out := a.output.Load(); out != nil {
		out.fill(&u)
		a.update.OutputBytes, a.update.OutputTruncated = u.OutputBytes, u.OutputTruncated
	}
	return pendingUpdate{assignment: a, update: u}, true
}

// recordProgress records progress and output sizes before they are sent. If the agent
// is killed, the next one continues from there, and its output does not overwrite
// output that was sent.
func (s *updateSender) recordProgress(batch []pendingUpdate) error {
	var updates []tasker.Update
	for _, u := range batch {
		if !u.final && u.update.Status == tasker.Running && (u.update.OutputBytes > 0 || u.update.Progress != nil) {
			updates = append(updates, u.update)
		}
	}
	err := s.opts.Journal.Update(updates...)
	if errors.Is(err, journal.ErrUnknown) {
		return nil
	}
	return err
}

// deliver sends a batch, and returns one error per update.
func (s *updateSender) deliver(ctx context.Context, batch []pendingUpdate) []error {
	reports := make([]tasker.Report, len(batch))
	for i := range batch {
		reports[i].Update = &batch[i].update
	}
	errs := make([]error, len(batch))
	err := sendReports(ctx, s.opts, reports...)
	var partial *transport.SendError
	switch {
	case errors.As(err, &partial):
		for i, err := range partial.Failed {
			errs[i] = err
		}
	case errors.Is(err, transport.ErrRefused) && len(batch) > 1:
		// Only one update may be at fault. It must not block the others.
		for i := range batch {
			errs[i] = s.deliver(ctx, batch[i:i+1])[0]
		}
	default:
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// handleResult counts the result of sending an update and discards delivered output. It
// reports whether to send the update again.
func (s *updateSender) handleResult(u pendingUpdate, err error) (retry bool) {
	switch {
	case errors.Is(err, transport.ErrRefused):
		u.assignment.logger(s.opts.Log).Error("report refused by the control plane; it is dropped", "status", u.update.Status, "error", err)
		s.opts.Metrics.countReport(reportRefused)
	case err != nil:
		s.opts.Metrics.countReport(reportFailed)
		return true
	default:
		s.opts.Metrics.countReport(reportSent)
	}
	if out := u.assignment.output.Load(); out != nil && !u.final {
		out.discard(u.update.Output)
	}
	return false
}

// confirm records that final updates were delivered.
func (s *updateSender) confirm(assignments []*assignment) error {
	if len(assignments) == 0 {
		return nil
	}
	refs := make([]journal.Ref, len(assignments))
	for i, a := range assignments {
		refs[i] = a.ref
	}
	if err := s.opts.Journal.Confirm(refs...); err != nil {
		return err
	}
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	for _, a := range assignments {
		a.delivered, a.finalUpdate = true, nil
	}
	return nil
}

// retry puts assignments back into the queue, and logs when sending begins to fail and
// when it works again.
func (s *updateSender) retry(ctx context.Context, assignments []*assignment, reason error) {
	sent := len(assignments) == 0
	failures := s.reports.recordResult(sent)
	s.reports.add(assignments...)
	switch {
	case sent && failures > 0:
		s.opts.Log.Info("reports are sent again")
	case !sent && failures == 0 && ctx.Err() == nil:
		s.opts.Log.Warn("reports not sent; they are kept and will be sent again", "reports", len(assignments), "error", reason)
	}
}
