package agent

import (
	"context"
	"fmt"
	"strings"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
)

// receive handles a batch of orders; nil acknowledges it. An empty one says
// that a session has begun.
func (a *Agent) receive(ctx context.Context, batch []tasker.Order) error {
	if len(batch) == 0 {
		a.speaker.begin()
		return nil
	}
	batch, refused := a.genuine(batch)
	// The time first: with it, deadlines need not wait to be checked.
	for _, o := range batch {
		if o.Welcome != nil && a.ours(o) && o.Version <= tasker.MaxWireVersion && a.speaker.welcome(*o.Welcome) {
			a.setTime(o.Welcome.Now)
		}
	}
	p := &plan{a: a, outcomes: map[string]int{}}
	for _, o := range batch {
		p.order(o)
	}
	if err := a.journal.Accept(p.records, p.stones); err != nil {
		p.giveBack()
		a.log.Error("orders cannot be recorded and are held", "orders", len(batch), "error", err)
		return err
	}
	p.carryOut(ctx)
	if p.outcomes[outcomeExpired] > 0 {
		a.doubtTime()
	}
	a.refused(refused)
	return nil
}

func (a *Agent) ours(o tasker.Order) bool {
	return o.Endpoint == a.opts.Endpoint || o.Endpoint == tasker.AllEndpoints
}

// The outcomes of assignments and cancels, as counted.
const (
	outcomeAccepted  = "accepted"
	outcomeRejected  = "rejected"
	outcomeExpired   = "expired"
	outcomeDuplicate = "duplicate"
	outcomeStale     = "stale"
	outcomeCancelled = "cancelled"
	outcomeMisdirect = "misdirected"
	outcomeMalformed = "malformed"

	// outcomeHeld is counted as what it comes to.
	outcomeHeld = ""
)

func (p *plan) order(o tasker.Order) {
	set := 0
	for _, is := range []bool{o.Assignment != nil, o.Cancel != nil, o.Welcome != nil} {
		if is {
			set++
		}
	}
	switch {
	case !p.a.ours(o):
		p.drop(outcomeMisdirect, o, "it is for "+o.Endpoint)
	case set != 1:
		p.drop(outcomeMalformed, o, "it is neither an assignment nor a cancel nor a welcome")
	case o.Welcome != nil:
	case o.Assignment != nil:
		p.assignment(o)
	case o.Version > tasker.MaxWireVersion:
		p.drop(outcomeMalformed, o, unreadable(o))
	default:
		p.cancel(o)
	}
}

func unreadable(o tasker.Order) string {
	return fmt.Sprintf("the message has version %d, this agent reads up to %d: update the agent", o.Version, tasker.MaxWireVersion)
}

// drop acknowledges an order that nobody can be told about.
func (p *plan) drop(outcome string, o tasker.Order, reason string) {
	p.outcomes[outcome]++
	id := ""
	if o.Assignment != nil {
		id = o.Assignment.TaskID
	} else if o.Cancel != nil {
		id = o.Cancel.TaskID
	}
	p.a.log.Warn("order dropped", "task", id, "type", o.Type, "reason", reason)
}

// nameable says whether an id and an attempt can name an assignment: the id
// becomes part of paths and of environment variables.
func nameable(id string, attempt int) bool {
	return id != "" && len(id) <= 128 && attempt > 0 && id != "." && id != ".." &&
		!strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' })
}

func (p *plan) assignment(o tasker.Order) {
	as, a := *o.Assignment, p.a
	if !nameable(as.TaskID, as.Attempt) {
		p.drop(outcomeMalformed, o, "its task id or attempt is none")
		return
	}
	arrived := a.opts.Clock()
	ref := journal.Ref{TaskID: as.TaskID, Attempt: as.Attempt}
	known, seen, stone := p.lookup(ref)
	now, timed := a.timeAt(arrived)
	if timed && as.Deadline.IsZero() {
		as.Deadline = now
	}
	switch {
	case known != nil:
		p.outcomes[outcomeDuplicate]++
		p.again = append(p.again, known)
	case seen > as.Attempt:
		p.outcomes[outcomeStale]++
	case !timed:
		// Whether the deadline has passed shows when the welcome is here. Until
		// then nothing is said of it, so that it can be forgotten; the reason of
		// a refusal waits in the update.
		p.add(o, as, outcomeHeld, tasker.Received, a.refusal(o, as))
		p.records[len(p.records)-1].Held = true
		w := p.works[len(p.works)-1]
		w.phase, w.arrived = journal.Held, arrived
	case now.After(as.Deadline):
		p.outcomes[outcomeExpired]++
		a.log.Warn("assignment came after its deadline", "task", as.TaskID, "identifier", as.Identifier, "type", o.Type,
			"deadline", as.Deadline, "late", now.Sub(as.Deadline))
	case stone >= as.Attempt:
		p.add(o, as, outcomeCancelled, tasker.Cancelled, "cancelled before it was received")
	default:
		if reason := a.refusal(o, as); reason != "" {
			p.add(o, as, outcomeRejected, tasker.Rejected, reason)
			return
		}
		p.add(o, as, outcomeAccepted, tasker.Received, "")
		p.reserve()
	}
}

// refusal says why an assignment cannot be performed here, if so.
func (a *Agent) refusal(o tasker.Order, as tasker.Assignment) string {
	if o.Version > tasker.MaxWireVersion {
		return unreadable(o)
	}
	if err := tasker.ValidateTaskType(o.Type); err != nil {
		return err.Error()
	}
	if len(as.Payload) > tasker.MaxPayload {
		return fmt.Sprintf("the payload has %d bytes; at most %d are allowed", len(as.Payload), tasker.MaxPayload)
	}
	if as.Action == tasker.Undo && !nameable(as.Undoes, 1) {
		return fmt.Sprintf("%q is no task that can be undone", as.Undoes)
	}
	return a.unfit(as.Handler, as.Action, as.Payload)
}

// unfit says why no handler here takes this payload, if so. Any handler takes a
// plan: where it cannot make one, that is all that is said.
func (a *Agent) unfit(handler string, action tasker.Action, payload []byte) string {
	h, ok := a.opts.Handlers.Lookup(handler)
	switch {
	case !ok:
		return fmt.Sprintf("handler %q is not configured on this agent (it has %s)",
			handler, strings.Join(a.opts.Handlers.Names(), ", "))
	case action != tasker.Perform && action != tasker.DryRun && action != tasker.Undo:
		return fmt.Sprintf("the action %q is not known to this agent: update the agent", action)
	case action == tasker.Undo && !h.Info().CanUndo:
		return fmt.Sprintf("handler %q cannot undo", handler)
	}
	if len(payload) == 0 {
		payload = []byte("{}")
	}
	if err := a.opts.Handlers.Validate(handler, payload); err != nil {
		return "bad payload: " + err.Error()
	}
	return ""
}
