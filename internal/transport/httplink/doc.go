// Package httplink carries orders and reports over HTTP, straight between the
// control plane's API and the agents: nothing else has to run.
//
// An agent keeps GET /agent/v1/orders open, a stream of orders, one JSON object
// a line, with empty lines between as a sign of life. It posts its reports to
// /agent/v1/reports, as a JSON array or one object a line, and the answer comes
// when they are stored. Both calls name the agent in two headers:
//
//	curl -N -H 'Tasker-Endpoint: loadbalancer-9' -H 'Tasker-Instance: me' localhost:8888/agent/v1/orders
//
// Nothing queues here: an order passes when it is written to the stream of an
// agent that has said hello, and a stream that breaks may take with it what was
// written last. The agent's next hello says what it has.
package httplink
