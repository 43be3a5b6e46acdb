// Package transporttest is the suite that every transport passes: it holds the
// Hub and the Links of a Fabric against the contract of package transport, on a
// real wire that it cuts, stalls and restores.
package transporttest

import (
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// Fabric is a transport under test, with nothing in it yet.
type Fabric struct {
	// NewHub makes the control plane's end. There is one at a time: the next is
	// made after the last was closed, as when a control plane restarts.
	NewHub func(t testing.TB, types []tasker.TaskType) transport.Hub
	// NewLink makes an agent's end.
	NewLink func(t testing.TB, endpoint, instance string, observer transport.Observer) transport.Link

	// AgentWire is the wire of the links. HubWire is that of the hub to what
	// stands between; nil where the links speak to the hub itself.
	AgentWire, HubWire *Proxy

	// Queues: the transport keeps orders for an endpoint that is away, and those
	// an agent has not acknowledged. Without it such an endpoint is ErrOffline,
	// and an order that was written to a connection may be lost with that.
	Queues bool

	// PutReport and PutOrder put raw bytes on the wire as a report of the endpoint
	// and as an order to it. The endpoint has a link that has said hello.
	PutReport, PutOrder func(t testing.TB, endpoint string, raw []byte)
}

// Run runs the suite; fabric makes a Fabric for each of its tests.
func Run(t *testing.T, fabric func(t *testing.T) Fabric) {
	tests := []struct {
		name string
		run  func(t *testing.T, f Fabric)
	}{
		{"an order passes as soon as the hello is handed over", orderAfterHello},
		{"orders reach those to whom they are addressed", addressing},
		{"cancels and welcomes pass whatever the endpoint serves", ordersWithoutRoute},
		{"unroutable orders are named by their index", unroutable},
		{"an order to everyone needs nobody", everyoneIsNobody},
		{"an endpoint that has left", absence},
		{"an order that has expired", expiry},
		{"a heartbeat changes the types that are served", typesChange},
		{"a heartbeat changes the scripts alone", scriptsChange},
		{"large messages", largeMessages},
		{"batches of thousands", thousands},
		{"many send at once", concurrency},
		{"messages of a higher version are set aside", versions},
		{"unknown fields and garbage on the wire", foreignBytes},

		{"the hub holds a batch that cannot be stored", hubHolds},
		{"the link holds a batch that cannot be stored", linkHolds},
		{"a batch that was held outlives its holder", heldBatchOutlives},
		{"batches that are held outlive a wire that is cut", heldOverCuts},
		{"reports wait for a hub that does not receive yet", hubNotReceiving},
		{"reports outlive a hub that is down", hubDown},
		{"reports outlive a wire that is cut", reportsOverCuts},
		{"orders outlive a wire that is cut", ordersOverCuts},
		{"a link connects again by itself", reconnects},
		{"a stalled wire", stalls},
		{"a name has one agent", oneName},

		{"a Send whose context is done", sendCancelled},
		{"a Receive whose context is done", receiveCancelled},
		{"Close ends everything", closes},
		{"Close waits for the handler", closeWaits},
		{"Close without a connection", closeUnconnected},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, fabric(t))
		})
	}
}

// taskTypes are those of every hub in the suite.
func taskTypes() []tasker.TaskType {
	return []tasker.TaskType{
		{Name: "ping", Handler: "ping"},
		{Name: "facts", Handler: "facts"},
		{Name: "update-app", Handler: tasker.ScriptHandler},
	}
}
