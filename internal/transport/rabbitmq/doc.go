// Package rabbitmq carries orders and reports over RabbitMQ: Hub is the control
// plane's end, Link an agent's.
//
//	control plane                     broker                          agent
//	              ┌► tasker.<type>  ──<name>, *all*──┐
//	Hub.Send ─────┤    (direct)                      ├► endpoint.<name> ─► Link.Receive
//	              └► default exchange ───────────────┘     (classic)
//	Hub.Receive ◄─ reports ◄─<name>─ tasker.reports ◄────────────────────── Link.Send
//	              (quorum)              (topic)
//
// Assignments go through the exchange of their type, so that an endpoint that
// does not serve it shows as unroutable. Welcomes and cancels to one endpoint
// go to its queue by the default exchange: both concern what it has, whether or
// not it still serves the type.
//
// The hub declares and binds; a link declares nothing, so that its user needs
// no permission to configure. A hello makes the endpoint's queue before it is
// handed over, and a heartbeat with other handlers changes the bindings.
//
// Both ends supervise their connections themselves instead of using the
// client library's recovery: that keeps the delivery tags of the lost
// connection usable, and acknowledging one of them with "multiple" on the
// recovered channel settles deliveries nobody has handled.
package rabbitmq
