package agent

import (
	"context"
	"errors"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// The bounds of one batch of reports.
const (
	batchReports = 64
	batchBytes   = 1 << 20
)

// due takes the works that are to be reported now, not more than fit a batch.
func (s *speaker) due(now time.Time) []*work {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.greeted || now.Before(s.newsAt) {
		return nil
	}
	if len(s.soon) > 0 && !now.Before(s.soonAt) {
		for _, w := range s.soon {
			if w.told.Load() {
				s.hastenLocked(w)
			}
		}
		s.soon = nil
	}
	if len(s.begun) > 0 && !now.Before(s.begunAt) {
		for _, w := range s.begun {
			if w.begun {
				s.hastenLocked(w)
			}
		}
		s.begun = nil
	}
	n := min(len(s.urgent), batchReports)
	works := s.urgent[:n:n]
	s.urgent = s.urgent[n:]
	for _, w := range works {
		w.urgent = false
	}
	return works
}

// told is what one batch says of a work.
type told struct {
	w     *work
	u     tasker.Update
	final bool
}

// report sends the state of works. What could not be sent is told again after a
// back-off, with what has come to pass meanwhile.
func (s *speaker) report(ctx context.Context, works []*work) {
	batch, rest := s.a.compose(works)
	s.tell(rest...)
	if len(batch) == 0 {
		return
	}
	err := s.a.note(batch)
	var failed map[int]error
	if err == nil {
		failed, err = s.sendBatch(ctx, batch)
	}
	var kept []*work
	var because error
	var finals []journal.Ref
	for i, t := range batch {
		reason := err
		if reason == nil {
			reason = failed[i]
		}
		switch {
		case errors.Is(reason, transport.ErrRefused):
			s.a.logger(t.w).Error("report refused by the control plane; it is dropped", "status", t.u.Status, "error", reason)
			s.a.metrics.report(reportRefused)
		case reason != nil:
			kept, because = append(kept, t.w), reason
			s.a.metrics.report(reportFailed)
			continue
		default:
			s.a.metrics.report(reportSent)
		}
		if out := t.w.out.Load(); out != nil && !t.final {
			out.handedOver(t.u.Output)
		}
		if t.final {
			finals = append(finals, t.w.ref)
		}
	}
	if len(finals) > 0 {
		if err := s.a.confirm(batch, finals); err != nil {
			because = err
			for _, t := range batch {
				if t.final {
					kept = append(kept, t.w)
				}
			}
		}
	}
	s.retry(ctx, kept, because)
}

// retry has works told again after a back-off.
func (s *speaker) retry(ctx context.Context, kept []*work, because error) {
	s.mu.Lock()
	before := s.failures
	if len(kept) == 0 {
		s.failures = 0
	} else {
		s.newsAt = time.Now().Add(resend(s.failures))
		s.failures++
	}
	s.mu.Unlock()
	s.tell(kept...)
	switch {
	case len(kept) > 0 && before == 0 && ctx.Err() == nil:
		s.a.log.Warn("reports not sent; they are kept and will be sent again", "reports", len(kept), "error", because)
	case len(kept) == 0 && before > 0:
		s.a.log.Info("reports are sent again")
	}
}

// sendBatch returns which reports did not pass, by index, or why none is known
// to have passed.
func (s *speaker) sendBatch(ctx context.Context, batch []told) (map[int]error, error) {
	reports := make([]tasker.Report, len(batch))
	for i := range batch {
		reports[i].Update = &batch[i].u
	}
	err := s.send(ctx, reports...)
	if one := (*transport.SendError)(nil); errors.As(err, &one) {
		return one.Failed, nil
	}
	if !errors.Is(err, transport.ErrRefused) || len(batch) == 1 {
		return nil, err
	}
	// Only one of them may be at fault, and it must not hold up the others.
	failed := map[int]error{}
	for i := range batch {
		if f, err := s.sendBatch(ctx, batch[i:i+1]); err != nil {
			failed[i] = err
		} else if f[0] != nil {
			failed[i] = f[0]
		}
	}
	return failed, nil
}

// compose makes the updates of works, as many as fit into a batch; the others
// are returned.
func (a *Agent) compose(works []*work) (batch []told, rest []*work) {
	total := 0
	for i, w := range works {
		if total > batchBytes {
			return batch, works[i:]
		}
		t, ok := a.update(w)
		if !ok {
			continue
		}
		total += size(t.u)
		batch = append(batch, t)
	}
	return batch, nil
}

// size is how large an update is, as far as that has no close bound.
func size(u tasker.Update) int {
	n := len(u.Result)
	for _, c := range u.Output {
		n += len(c.Data)
	}
	return n
}

// update makes the update that says how a work is; false if there is none to
// be made.
func (a *Agent) update(w *work) (told, bool) {
	a.mu.Lock()
	switch {
	case w.phase == journal.Ended && w.report != nil:
		defer a.mu.Unlock()
		return told{w: w, u: *w.report, final: true}, true
	case w.phase == journal.Ended:
		a.mu.Unlock()
		u, err := a.journal.Report(w.ref)
		if err != nil {
			a.logger(w).Warn("a report is not in the journal any more", "error", err)
			return told{}, false
		}
		return told{w: w, u: u, final: true}, true
	case w.final || w.phase == journal.Held:
		a.mu.Unlock()
		return told{}, false
	}
	defer a.mu.Unlock()
	if p := w.progress.Load(); p != nil {
		w.last.Progress = p
	}
	w.last.Seq = a.journal.Seq()
	u := w.last
	if out := w.out.Load(); out != nil {
		out.fill(&u)
		w.last.OutputBytes, w.last.OutputTruncated = u.OutputBytes, u.OutputTruncated
	}
	return told{w: w, u: u}, true
}

// note records what is about to be said of works that have not ended, beyond what
// their start has recorded: if the
// agent is killed, it goes on from there, and output that is printed then does
// not take the place of output that was sent.
func (a *Agent) note(batch []told) error {
	var updates []tasker.Update
	for _, t := range batch {
		if !t.final && t.u.Status == tasker.Running && (t.u.OutputBytes > 0 || t.u.Progress != nil) {
			updates = append(updates, t.u)
		}
	}
	err := a.journal.Note(updates...)
	if errors.Is(err, journal.ErrUnknown) {
		return nil
	}
	return err
}

// confirm records that final reports were handed over.
func (a *Agent) confirm(batch []told, refs []journal.Ref) error {
	if err := a.journal.Confirm(refs...); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	handed := make(map[journal.Ref]bool, len(refs))
	for _, ref := range refs {
		handed[ref] = true
	}
	for _, t := range batch {
		if t.final && handed[t.w.ref] {
			t.w.confirmed, t.w.report = true, nil
		}
	}
	return nil
}
