package tasker

import (
	"slices"
	"time"
)

// Callback asks that a URL is called when something becomes of a task.
type Callback struct {
	URL string `json:"url" doc:"The URL to call. It must be https, or http on the control plane's own machine, unless the configuration permits others."`
	// Events are those that it is called for, in the order of CallbackEvents.
	Events []CallbackEvent `json:"events" doc:"finished: every response has ended, again each time that this changes; incomplete: an endpoint has not received the task; paused: the rollout has paused."`
}

// CallbackEvent is what becomes of a task, once each time that it does.
type CallbackEvent string

// The events.
const (
	// CallbackFinished: every response has ended, or the status of a task that had
	// finished is another one by a late report.
	CallbackFinished CallbackEvent = "finished"
	// CallbackIncomplete: an endpoint is known not to have received the task.
	CallbackIncomplete CallbackEvent = "incomplete"
	// CallbackPaused: the rollout has paused.
	CallbackPaused CallbackEvent = "paused"
)

// CallbackEvents lists every event.
func CallbackEvents() []CallbackEvent {
	return []CallbackEvent{CallbackFinished, CallbackIncomplete, CallbackPaused}
}

// HasEvent says whether it is called for an event. A nil Callback is called for none.
func (c *Callback) HasEvent(e CallbackEvent) bool { return c != nil && slices.Contains(c.Events, e) }

// DeliveryStatus is where the delivery of an event stands.
type DeliveryStatus string

// The statuses of a delivery.
const (
	DeliveryWaiting   DeliveryStatus = "waiting"
	DeliveryDelivered DeliveryStatus = "delivered"
	DeliveryGivenUp   DeliveryStatus = "given_up"
)

// DeliveryStatuses lists every status of a delivery.
func DeliveryStatuses() []DeliveryStatus {
	return []DeliveryStatus{DeliveryWaiting, DeliveryDelivered, DeliveryGivenUp}
}

// Delivery is an event of a task and what became of telling it.
type Delivery struct {
	// ID is what the receiver knows it by, a UUIDv7.
	ID     string         `json:"id" doc:"The webhook-id of the call."`
	Event  CallbackEvent  `json:"event" doc:"The event."`
	At     time.Time      `json:"at" doc:"When the event happened."`
	Status DeliveryStatus `json:"status" doc:"waiting for the next attempt, delivered, or given_up."`
	// Attempts is how often the URL was called, one that is under way included.
	Attempts      int        `json:"attempts" doc:"How often the URL was called, including a call in progress."`
	NextAttemptAt *time.Time `json:"next_attempt_at,omitempty" doc:"When the URL is called next."`
	DeliveredAt   *time.Time `json:"delivered_at,omitempty" doc:"When the URL answered 2xx."`
	// LastError says for a person why the last attempt that failed did.
	LastError string `json:"last_error,omitempty" doc:"Why the last failed attempt failed."`
}
