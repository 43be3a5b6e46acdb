// Package httplink transports orders and reports over HTTP, directly between the
// control plane's API and the agents. It needs no message broker.
//
// An agent keeps GET /agent/v1/orders open: a stream of orders, one JSON object per
// line, with empty lines as keepalives. It posts its reports to /agent/v1/reports, as a
// JSON array or one object per line. The hub responds after the reports are stored. Two
// headers of both requests identify the agent:
//
//	curl -N -H 'Tasker-Endpoint: loadbalancer-9' -H 'Tasker-Instance: me' localhost:8888/agent/v1/orders
//
// The hub queues no orders for agents that are not connected. An order counts as sent
// after it is written to the stream of an agent that has sent a hello. If the stream
// breaks, the orders written last can be lost; the agent's next hello lists the
// assignments that it has.
package httplink
