package httplink_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
)

// timeout is how long a test waits for an expected event.
const timeout = 60 * time.Second

// clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// collect receives reports until the hub is closed. The returned function returns the
// batches received so far. An error of hold, which may be nil, holds a batch.
func collect(t testing.TB, hub *httplink.Hub, hold func([]tasker.Report) error) (batches func() [][]tasker.Report) {
	t.Helper()
	var mu sync.Mutex
	var all [][]tasker.Report
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = hub.Receive(context.Background(), func(_ context.Context, batch []tasker.Report) error {
			if hold != nil {
				if err := hold(batch); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, append([]tasker.Report(nil), batch...))
			return nil
		})
	}()
	t.Cleanup(func() {
		closeConn(t, hub)
		<-done
	})
	return func() [][]tasker.Report {
		mu.Lock()
		defer mu.Unlock()
		return append([][]tasker.Report(nil), all...)
	}
}

// orders is a stream of orders, read line by line.
type orders struct {
	status int
	header http.Header
	// problem is the detail of an error response; empty if the stream is open.
	problem string
	body    io.ReadCloser
	lines   *bufio.Reader
}

// open requests a stream; client may be nil.
func (s *server) open(t testing.TB, client *http.Client, endpoint, instance string) *orders {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/agent/v1/orders", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Tasker-Endpoint", endpoint)
	req.Header.Set("Tasker-Instance", instance)
	if client == nil {
		client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = resp.Body.Close()
	})
	o := &orders{status: resp.StatusCode, header: resp.Header, body: resp.Body, lines: bufio.NewReader(resp.Body)}
	if resp.StatusCode != http.StatusOK {
		var p struct{ Detail string }
		if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("the response %s has no problem as its body: %v", resp.Status, err)
		}
		o.problem = p.Detail
	}
	return o
}

// next returns the next line that is not a keepalive, without its line end.
func (o *orders) next() (string, error) {
	for {
		line, err := o.lines.ReadString('\n')
		if line = strings.TrimSpace(line); line != "" || err != nil {
			return line, err
		}
	}
}

func reports(t testing.TB, reports ...tasker.Report) []byte {
	t.Helper()
	raw, err := json.Marshal(reports)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func hello(endpoint string, handlers ...string) tasker.Report {
	return tasker.Report{
		Version: tasker.WireVersion, Endpoint: endpoint, Instance: "journal-of-" + endpoint,
		Hello: &tasker.Hello{Presence: tasker.Presence{Handlers: handlers}, Session: "s"},
	}
}

func update(endpoint string, n int) tasker.Report {
	return tasker.Report{
		Version: tasker.WireVersion, Endpoint: endpoint, Instance: "journal-of-" + endpoint,
		Update: &tasker.Update{TaskID: fmt.Sprint("task-", n), Type: "ping", Attempt: 1, Seq: 1, Status: tasker.Running},
	}
}

func assignment(endpoint string, n int) tasker.Order {
	return tasker.Order{
		Version: tasker.WireVersion, Endpoint: endpoint, Type: "ping",
		Assignment: &tasker.Assignment{TaskID: fmt.Sprint("task-", n), Attempt: 1, Handler: "ping", Payload: []byte(`{}`)},
	}
}
