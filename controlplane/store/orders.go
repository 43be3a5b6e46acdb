package store

import (
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

const (
	// welcomeLifetime is how long a welcome is useful to its agent.
	welcomeLifetime = 30 * time.Second
	// cancelLifetime is how long after the deadline a cancel is useful to an agent
	// that has not received the assignment.
	cancelLifetime = time.Hour
)

// orderBuilder builds orders from stored tasks.
type orderBuilder struct {
	db    *database
	types map[string]tasker.TaskType
	keys  *SigningKeys
}

// newClaims returns the claims of all orders of a new task.
func (o orderBuilder) newClaims(t *taskRow, now sqldb.Micros) []Claim {
	endpoints := t.Endpoints
	if t.broadcast {
		endpoints = []string{""}
	}
	claims := make([]Claim, len(endpoints))
	for i, name := range endpoints {
		c := Claim{AttemptKey: AttemptKey{t.ID, name, t.attempt}, heldUntil: now.Add(ClaimHold)}
		c.Order = o.order(t, c, now)
		claims[i] = c
	}
	return claims
}

// order returns the order that the claim sends.
func (o orderBuilder) order(t *taskRow, c Claim, now sqldb.Micros) tasker.Order {
	if c.Cancel {
		return o.cancel(t, c, now)
	}
	return o.assignment(t, c, now)
}

func (o orderBuilder) cancel(t *taskRow, c Claim, now sqldb.Micros) tasker.Order {
	return tasker.Order{
		Version: tasker.WireVersion, Endpoint: addressee(c), Type: t.Type,
		Cancel: &tasker.Cancel{TaskID: t.ID, Attempt: c.Attempt, Deadline: t.ReceiveDeadline, Broadcast: c.Endpoint == ""},
		// A running attempt may be cancelled long after its receive deadline.
		Expires: o.db.localTime(max(t.deadline(), now).Add(cancelLifetime), now),
	}
}

func (o orderBuilder) assignment(t *taskRow, c Claim, now sqldb.Micros) tasker.Order {
	handler := o.types[t.Type].Handler
	if handler == "" {
		handler = tasker.ScriptHandler // the type is no longer configured
	}
	a := &tasker.Assignment{
		TaskID: t.ID, Identifier: t.Identifier, Attempt: c.Attempt, Handler: handler, Payload: t.Payload,
		Timeout: t.Timeout, Deadline: t.ReceiveDeadline,
	}
	version := tasker.WireVersion
	if t.Action != tasker.Perform {
		version, a.Action, a.Undoes = tasker.ActionVersion, t.Action, t.Undoes
	}
	return tasker.Order{
		Version: version, Endpoint: addressee(c), Type: t.Type, Assignment: a,
		Expires: o.db.localTime(t.deadline(), now),
	}
}

func addressee(c Claim) string {
	if c.Endpoint == "" {
		return tasker.AllEndpoints
	}
	return c.Endpoint
}

// welcome returns the order that responds to a hello, or changes the interval of
// an agent's heartbeats.
func (o orderBuilder) welcome(endpoint, session string, heartbeat time.Duration, now sqldb.Micros) tasker.Order {
	return tasker.Order{
		Version: tasker.WireVersion, Endpoint: endpoint, Expires: o.db.localTime(now.Add(welcomeLifetime), now),
		Welcome: &tasker.Welcome{Session: session, Now: now.Time(), Heartbeat: tasker.Duration(heartbeat)},
	}
}
