package rabbitmq_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/reportrules"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// padded returns the encoding of an update with a total size.
func padded(t testing.TB, number, size int) []byte {
	t.Helper()
	encoded, err := json.Marshal(update("web-1", number))
	if err != nil {
		t.Fatal(err)
	}
	return append(encoded, bytes.Repeat([]byte(" "), size-len(encoded))...)
}

func TestOversizedMessageIsSetAsideUndecoded(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	hub := newHub(t, b.URI)
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	send(t, hub, assignment("ping", tasker.AllEndpoints, 0)) // the queues exist
	const tooLarge = reportrules.MaxReport + 1
	for i, size := range []int{reportrules.MaxReport, tooLarge, 20 << 20, 1000} {
		put(t, b, rabbitmq.ReportsExchange, "web-1", amqp.Publishing{UserId: b.Username, Body: padded(t, i, size)})
	}
	wait.For(t, "the last report", func() bool { return updates(in.all())["task-3"] == 1 })
	if got := updates(in.all()); len(got) != 2 || got["task-0"] != 1 {
		t.Errorf("received %v, want tasks 0 and 3", got)
	}
	wait.For(t, "the large messages to be set aside", func() bool { return b.Messages(t, rabbitmq.RejectedQueue) == 2 })
}

// Far more reports than the memory budget wait while the database is down. All are stored
// afterwards, in order, on the same connection.
func TestReportsBeyondTheMemoryBudget(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	var isConnected, isLost atomic.Bool
	hub := newHub(t, b.URI, func(o *rabbitmq.HubOptions) {
		o.Observer = func(err error) { isLost.Store(isLost.Load() || isConnected.Load() && err != nil) }
	})
	var working atomic.Bool
	var held atomic.Int64
	in := &inbox[tasker.Report]{refuse: func(batch []tasker.Report) error {
		held.Store(int64(len(batch)))
		if !working.Load() {
			return fmt.Errorf("the database is down")
		}
		return nil
	}}
	receive(t, hub, in)
	send(t, hub, assignment("ping", tasker.AllEndpoints, 0))
	isConnected.Store(true)
	const reports, size = 60, 1 << 20
	for i := range reports {
		if i%10 == 5 { // a hello makes the hub declare a queue
			encoded, err := json.Marshal(hello(fmt.Sprint("web-", i), "ping"))
			if err != nil {
				t.Fatal(err)
			}
			put(t, b, rabbitmq.ReportsExchange, fmt.Sprint("web-", i), amqp.Publishing{UserId: b.Username, Body: encoded})
		}
		put(t, b, rabbitmq.ReportsExchange, "web-1", amqp.Publishing{UserId: b.Username, Body: padded(t, i, size)})
	}
	wait.For(t, "the first batch", func() bool { return held.Load() > 0 })
	if n := held.Load(); n > 8 {
		t.Errorf("a batch has %d MiB", n)
	}
	working.Store(true)
	wait.For(t, "all reports", func() bool { return len(in.all()) == reports+reports/10 })
	i := 0
	for _, r := range in.all() {
		if r.Update == nil {
			continue
		}
		if want := fmt.Sprint("task-", i); r.Update.TaskID != want {
			t.Fatalf("report %d is of %s, want %s", i, r.Update.TaskID, want)
		}
		i++
	}
	if isLost.Load() {
		t.Error("the connection was lost")
	}
}

func TestAgentThatSendsTooFastIsReported(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	name := "agent-" + b.Vhost
	agent := b.AddUser(t, name, "^$", ".*", ".*")
	var tooFast sync.Map
	now := time.Now()
	hub := newHub(t, b.URI, func(o *rabbitmq.HubOptions) {
		o.Clock = func() time.Time { return now } // no time passes, however slow this machine is
		o.TooFast = func(endpoint string) { tooFast.Store(endpoint, true) }
	})
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	send(t, hub, assignment("ping", tasker.AllEndpoints, 0))
	send(t, newLink(t, agent, name), update(name, 1))
	wait.For(t, "its first report", func() bool { return len(in.all()) == 1 })
	tooFast.Range(func(endpoint, _ any) bool {
		t.Errorf("%v is too fast with one report", endpoint)
		return true
	})
	conn, err := amqp.Dial(agent)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	large := append(bytes.Repeat([]byte(" "), 2<<20-1), '{')
	wait.For(t, "the agent to be reported", func() bool {
		if err := ch.PublishWithContext(t.Context(), rabbitmq.ReportsExchange, name, false, false, amqp.Publishing{UserId: name, Body: large}); err != nil {
			t.Fatal(err)
		}
		_, reported := tooFast.Load(name)
		return reported
	})
}

// TestReportsOverTLS uses a proxy that ends TLS in front of the broker.
func TestReportsOverTLS(t *testing.T) {
	t.Parallel()
	b := rabbitmqtest.New(t)
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server.TLS.Clone())
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { forward(listener, b.Address, &running) })
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	plain := b.URIAt(listener.Addr().String(), b.Username, b.Password)
	hub := newHub(t, strings.Replace(plain, "amqp://", "amqps://", 1)+"?cacertfile="+ca)
	in := &inbox[tasker.Report]{}
	receive(t, hub, in)
	send(t, hub, assignment("ping", tasker.AllEndpoints, 0))
	put(t, b, rabbitmq.ReportsExchange, "web-1", amqp.Publishing{UserId: b.Username, Body: padded(t, 1, reportrules.MaxReport+1)})
	put(t, b, rabbitmq.ReportsExchange, "web-1", amqp.Publishing{UserId: b.Username, Body: padded(t, 2, 1000)})
	wait.For(t, "the report", func() bool { return updates(in.all())["task-2"] == 1 })
	wait.For(t, "the large message to be set aside", func() bool { return b.Messages(t, rabbitmq.RejectedQueue) == 1 })
}

// forward passes the bytes of accepted connections to and from an address.
func forward(listener net.Listener, address string, running *sync.WaitGroup) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", address)
		if err != nil {
			_ = client.Close()
			continue
		}
		for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
			running.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				_, _ = client.Close(), server.Close()
			})
		}
	}
}
