// Package rabbitmq transports orders and reports over RabbitMQ. Hub is the control plane's
// end, Link is the end of an agent.
//
//	control plane                     broker                          agent
//	              ┌► tasker.<type>  ──<name>, *all*──┐
//	Hub.Send ─────┤    (direct)                      ├► endpoint.<name> ─► Link.Receive
//	              └► default exchange ───────────────┘     (classic)
//	Hub.Receive ◄─ reports ◄─<name>─ tasker.reports ◄────────────────────── Link.Send
//	              (quorum)              (topic)
//
// Assignments go through the exchange of their type. So the broker returns the assignment
// of an endpoint that does not serve the type as unroutable. Welcomes and cancels to one
// endpoint go directly to its queue, through the default exchange, because they do not
// depend on the types that the endpoint serves.
//
// The hub declares exchanges, queues and bindings. A link declares nothing, so its user
// needs no permission to configure. The hub declares the endpoint's queue before it
// delivers a hello. A heartbeat with other handlers changes the bindings.
//
// Both ends reconnect themselves instead of using the recovery of the client library.
// The recovery would keep the delivery tags of the lost connection usable: an
// acknowledgement of such a tag with "multiple" on the recovered channel would
// acknowledge deliveries that were never handled.
package rabbitmq
