// Package transporttest is the conformance suite for transports. It checks the Hub and the
// Links of a transport against the contract of package transport, over a real network
// connection that it cuts, stalls and restores.
package transporttest

import (
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// Fabric is a transport under test, without a Hub or a Link.
type Fabric struct {
	// NewHub returns the control plane's end. The suite creates one at a time: it closes
	// the previous one before, as in a restart of a control plane.
	NewHub func(t testing.TB, types []tasker.TaskType) transport.Hub
	// NewLink returns an agent's end.
	NewLink func(t testing.TB, endpoint, instance string, observer transport.Observer) transport.Link

	// AgentProxy is the proxy between the links and the other side. HubProxy is the proxy
	// between the hub and its broker; nil if the links connect to the hub directly.
	AgentProxy, HubProxy *Proxy

	// Queues is true if the transport keeps orders for an endpoint that is not connected,
	// and orders that an agent has not acknowledged. Otherwise a Send to such an endpoint
	// returns ErrOffline, and a lost connection may lose the orders written to it.
	Queues bool

	// PutReport and PutOrder send raw bytes as a report of the endpoint and as an order to
	// it. The endpoint has a link that has sent a hello.
	PutReport, PutOrder func(t testing.TB, endpoint string, raw []byte)
}

// Run runs the suite; fabric returns a new Fabric for each test.
func Run(t *testing.T, fabric func(t *testing.T) Fabric) {
	tests := []struct {
		name string
		run  func(t *testing.T, f Fabric)
	}{
		{"an order is accepted during the delivery of the hello", orderAfterHello},
		{"orders reach their receivers", addressing},
		{"cancels and welcomes need no served type", ordersWithoutBinding},
		{"SendError names unroutable orders", unroutable},
		{"an order to all endpoints needs no endpoint", broadcastWithoutEndpoints},
		{"orders for an endpoint that is not connected", absentEndpoint},
		{"expired orders are dropped", expiry},
		{"a heartbeat changes the types that are served", typesChange},
		{"a heartbeat changes only the scripts", scriptsChange},
		{"large messages", largeMessages},
		{"large batches", largeBatches},
		{"concurrent senders", concurrency},
		{"messages of a higher version are rejected", versions},
		{"unknown fields and invalid messages", invalidBytes},

		{"the hub holds a batch that cannot be stored", hubHolds},
		{"the link holds a batch that cannot be stored", linkHolds},
		{"a held batch is redelivered after a restart", heldBatchIsRedelivered},
		{"held batches survive lost connections", heldDuringCuts},
		{"reports wait for Receive of the hub", hubNotReceiving},
		{"reports survive a restart of the hub", hubDown},
		{"reports survive lost connections", reportsDuringCuts},
		{"orders survive lost connections", ordersDuringCuts},
		{"a link reconnects", reconnects},
		{"a stalled network", stalledNetwork},
		{"a network that drops established connections", droppedConnections},
		{"a name belongs to one agent", uniqueName},
		{"a name belongs to one process", clonedAgent},

		{"a cancelled Send", sendCancelled},
		{"a cancelled Receive", receiveCancelled},
		{"Close ends Send and Receive", closeEnds},
		{"Close waits for the handler", closeWaits},
		{"Close without a connection", closeWithoutConnection},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, fabric(t))
		})
	}
}

// taskTypes returns the task types of every hub in the suite.
func taskTypes() []tasker.TaskType {
	return []tasker.TaskType{
		{Name: "ping", Handler: "ping"},
		{Name: "facts", Handler: "facts"},
		{Name: "update-app", Handler: tasker.ScriptHandler},
	}
}
