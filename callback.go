package tasker

import (
	"slices"
	"time"
)

// Callback is a URL that receives events of a task.
type Callback struct {
	URL string `json:"url" doc:"The URL to call. It must be https, or http on the control plane's own machine, unless the configuration permits others."`
	// Events are the events that the URL receives, in the order of CallbackEvents.
	Events []CallbackEvent `json:"events" doc:"finished: every response has ended, again each time that this changes; incomplete: an endpoint has not received the task; paused: the rollout has paused."`
}

// CallbackEvent is a kind of event in the life of a task.
type CallbackEvent string

// The events of a task.
const (
	// CallbackFinished occurs when every response has ended, and again when a late
	// report changes the status of a finished task.
	CallbackFinished CallbackEvent = "finished"
	// CallbackIncomplete occurs when an endpoint has not received the task in time.
	CallbackIncomplete CallbackEvent = "incomplete"
	// CallbackPaused occurs when the rollout pauses.
	CallbackPaused CallbackEvent = "paused"
)

// CallbackEvents lists every event.
func CallbackEvents() []CallbackEvent {
	return []CallbackEvent{CallbackFinished, CallbackIncomplete, CallbackPaused}
}

// HasEvent reports whether the URL receives the event. A nil Callback receives none.
func (c *Callback) HasEvent(e CallbackEvent) bool { return c != nil && slices.Contains(c.Events, e) }

// DeliveryStatus is the status of the delivery of an event.
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

// Delivery is the delivery of one event of a task to the callback's URL.
type Delivery struct {
	// ID is a UUIDv7 that the receiver gets as the webhook-id.
	ID            string         `json:"id" doc:"The webhook-id of the call."`
	Event         CallbackEvent  `json:"event" doc:"The event."`
	At            time.Time      `json:"at" doc:"When the event happened."`
	Status        DeliveryStatus `json:"status" doc:"waiting for the next attempt, delivered, or given_up."`
	Attempts      int            `json:"attempts" doc:"How often the URL was called, including a call in progress."`
	NextAttemptAt *time.Time     `json:"next_attempt_at,omitempty" doc:"When the URL is called next."`
	DeliveredAt   *time.Time     `json:"delivered_at,omitempty" doc:"When the URL answered 2xx."`
	LastError     string         `json:"last_error,omitempty" doc:"Why the last failed attempt failed."`
}
