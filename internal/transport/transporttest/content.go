package transporttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func largeMessages(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1", "ping")
	orders, reports := assignments("web-1", "large", 8), updates("web-1", "large", 8)
	for i := range orders {
		fill := strings.Repeat(fmt.Sprint(i), tasker.MaxPayload-2)
		orders[i].Assignment.Payload = json.RawMessage(`"` + fill + `"`)
		reports[i].Update.Result = json.RawMessage(`"` + fill[:tasker.MaxResult-2] + `"`)
		reports[i].Update.Output = []tasker.Chunk{{Offset: int64(i), Data: bytes.Repeat([]byte{byte(i), 0xff}, 320<<10)}}
	}
	a.send(t, reports...)
	h.send(t, orders...)
	wait.For(t, "the orders", func() bool { return len(a.in.all()) >= len(orders) })
	sameJSON(t, "orders", orders, a.in.all())
	wait.For(t, "the reports", func() bool { return len(updatedTasks(h.in.all())) >= len(reports) })
	sameJSON(t, "reports", reports, h.in.all()[1:])
}

// sameJSON compares messages that are too large to print.
func sameJSON[M any](t *testing.T, what string, want, got []M) {
	t.Helper()
	if len(want) != len(got) {
		t.Fatalf("%d %s, want %d", len(got), what, len(want))
	}
	for i := range want {
		w, err := json.Marshal(want[i])
		if err != nil {
			t.Fatal(err)
		}
		g, err := json.Marshal(got[i])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(w, g) {
			t.Errorf("number %d of the %s has %d bytes, want %d:\n%.300s\n%.300s", i, what, len(g), len(w), g, w)
		}
	}
}

func largeBatches(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1", "ping")
	const n = 5000
	if err := h.Send(t.Context(), assignments("web-1", "order", n)...); err != nil {
		t.Fatalf("Send of %d orders returned %v", n, err)
	}
	if err := a.Send(t.Context(), updates("web-1", "report", n)...); err != nil {
		t.Fatalf("Send of %d reports returned %v", n, err)
	}
	wait.For(t, "the orders", func() bool { return len(a.in.all()) >= n })
	if diff := cmp.Diff(names("order", n), orderNames(a.in.all())); diff != "" {
		t.Errorf("orders differ (-want +got):\n%.2000s", diff)
	}
	wait.For(t, "the reports", func() bool { return len(updatedTasks(h.in.all())) >= n })
	if diff := cmp.Diff(names("report", n), updatedTasks(h.in.all())); diff != "" {
		t.Errorf("reports differ (-want +got):\n%.2000s", diff)
	}
}

func concurrency(t *testing.T, f Fabric) {
	h := f.hub(t)
	const senders, rounds, each = 6, 10, 10
	agents := make([]*agent, 3)
	for i := range agents {
		agents[i] = f.connectedAgent(t, h, fmt.Sprint("web-", i), "ping")
	}
	sendConcurrently(t, h, agents, senders, rounds, each)
	// The messages of one sender arrive in order.
	inOrder := func(all []string, prefix string) {
		t.Helper()
		of := slices.DeleteFunc(all, func(task string) bool { return !strings.HasPrefix(task, prefix+"-") })
		if diff := cmp.Diff(names(prefix, rounds*each), of); diff != "" {
			t.Errorf("messages differ (-want +got):\n%.2000s", diff)
		}
	}
	wait.For(t, "the reports", func() bool { return len(updatedTasks(h.in.all())) >= senders*len(agents)*rounds*each })
	for _, a := range agents {
		wait.For(t, "the orders to "+a.name, func() bool { return len(a.in.all()) >= senders*rounds*each })
		for s := range senders {
			inOrder(orderNames(a.in.all()), fmt.Sprint("order-", s))
			inOrder(updatedTasks(h.in.all()), fmt.Sprintf("report-%s-%d", a.name, s))
		}
	}
}

// sendConcurrently sends orders to each agent and reports from it with several senders.
func sendConcurrently(t *testing.T, h *hub, agents []*agent, senders, rounds, each int) {
	t.Helper()
	var sending sync.WaitGroup
	for s := range senders {
		for _, a := range agents {
			sending.Go(func() {
				orders := assignments(a.name, fmt.Sprint("order-", s), rounds*each)
				reports := updates(a.name, fmt.Sprintf("report-%s-%d", a.name, s), rounds*each)
				for r := range rounds {
					if err := h.Send(t.Context(), orders[r*each:(r+1)*each]...); err != nil {
						t.Errorf("Send of orders returned %v", err)
					}
					if err := a.Send(t.Context(), reports[r*each:(r+1)*each]...); err != nil {
						t.Errorf("Send of reports returned %v", err)
					}
				}
			})
		}
	}
	sending.Wait()
}

func versions(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1", "ping")
	orders, reports := assignments("web-1", "order", 3), updates("web-1", "report", 3)
	orders[1].Version, reports[1].Version = tasker.MaxWireVersion+1, tasker.MaxWireVersion+1
	if err := h.Send(t.Context(), orders...); err != nil {
		t.Fatalf("Send of orders returned %v", err)
	}
	// Only some transports report the rejection to the sender.
	err := a.Send(t.Context(), reports...)
	var partly *transport.SendError
	if err != nil && (!errors.As(err, &partly) || len(partly.Failed) != 1 || !errors.Is(partly.Failed[1], transport.ErrRefused)) {
		t.Fatalf("Send of reports returned %v", err)
	}
	wait.For(t, "the last order", func() bool { return slices.Contains(orderNames(a.in.all()), "order-2") })
	wait.For(t, "the last report", func() bool { return slices.Contains(updatedTasks(h.in.all()), "report-2") })
	if diff := cmp.Diff([]string{"order-0", "order-2"}, orderNames(a.in.all())); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"report-0", "report-2"}, updatedTasks(h.in.all())); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

func invalidBytes(t *testing.T, f Fabric) {
	h := f.hub(t)
	a := f.connectedAgent(t, h, "web-1", "ping")
	for _, raw := range []string{
		`{"v":1,"endpoint":"web-1","type":"ping","later":{"x":[1]},"assignment":{"task_id":"a","attempt":1,"payload":{},"later":true}}`,
		`{"v":1,"endpoint":`, `no JSON`, `[1]`, `"text"`,
		`{"v":2,"endpoint":"web-1","assignment":"of another kind"}`,
		`{"v":1,"endpoint":"web-1","type":"ping","assignment":{"task_id":"b"}}`,
	} {
		f.PutOrder(t, "web-1", []byte(raw))
	}
	wait.For(t, "the last order", func() bool { return slices.Contains(orderNames(a.in.all()), "b") })
	if diff := cmp.Diff([]string{"a", "b"}, orderNames(a.in.all())); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
	for _, raw := range []string{
		`{"v":1,"endpoint":"web-1","instance":"journal-of-web-1","later":{"x":[1]},"update":{"task_id":"a","attempt":1,"status":"running","later":true}}`,
		`{"v":1,"endpoint":`, `no JSON`, `"text"`,
		`{"v":2,"endpoint":"web-1","update":"of another kind"}`,
		`{"v":1,"endpoint":"web-1","instance":"journal-of-web-1","update":{"task_id":"b","attempt":1,"status":"running"}}`,
	} {
		f.PutReport(t, "web-1", []byte(raw))
	}
	wait.For(t, "the last report", func() bool { return slices.Contains(updatedTasks(h.in.all()), "b") })
	if diff := cmp.Diff([]string{"a", "b"}, updatedTasks(h.in.all())); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}
