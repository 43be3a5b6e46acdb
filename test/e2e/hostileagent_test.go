package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/MatthiasWiesner/tasker"
)

// hostileAgent sends anything with the credential of one endpoint.
type hostileAgent struct {
	t   *testing.T
	api string
	// server is the broker; empty if agents connect to the API.
	server, secret string
	reports        []string

	sent, bytes atomic.Int64

	mu    sync.Mutex
	tasks []string
}

// addTask adds a task to those that the agent reports on.
func (h *hostileAgent) addTask(task tasker.Task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tasks = append(h.tasks, task.ID)
}

// task returns the id of one of the last tasks.
func (h *hostileAgent) task() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.tasks[max(0, len(h.tasks)-20):]
	return last[rand.IntN(len(last))]
}

// report returns one of the reports, about one of the tasks.
func (h *hostileAgent) report() string {
	return strings.ReplaceAll(h.reports[rand.IntN(len(h.reports))], hostileTaskMark, h.task())
}

// count counts a sent report.
func (h *hostileAgent) count(size int) {
	h.sent.Add(1)
	h.bytes.Add(int64(size))
}

// attack sends over HTTP, and over RabbitMQ if the agent has a broker, until ctx is done.
func (h *hostileAgent) attack(ctx context.Context) {
	if h.server != "" {
		// At this rate the agent is not suspended, so that reports are stored.
		_ = h.publish(ctx, 150, 20*time.Millisecond)
	}
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() { repeat(ctx, h.post) })
	}
	senders.Go(func() { repeat(ctx, h.postLarge) })
	senders.Go(func() { repeat(ctx, h.postSlowly) })
	if h.server != "" {
		for range 4 {
			senders.Go(func() {
				repeat(ctx, func(ctx context.Context) error { return h.publish(ctx, math.MaxInt, 0) })
			})
		}
	}
	senders.Wait()
}

// repeat calls send again and again, with a pause after an error. A random pause after each
// call bounds the load on the machine.
func repeat(ctx context.Context, send func(context.Context) error) {
	for ctx.Err() == nil {
		pause := time.Duration(rand.IntN(5)) * time.Millisecond
		if send(ctx) != nil {
			pause = 50 * time.Millisecond
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// send sends a POST of reports with any body.
func (h *hostileAgent) send(ctx context.Context, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+h.api+"/agent/v1/reports", body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+h.secret)
	req.Header.Set("Tasker-Endpoint", hostileEndpoint)
	req.Header.Set("Tasker-Instance", "i")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusInternalServerError && resp.StatusCode != http.StatusServiceUnavailable {
		h.t.Errorf("a POST of reports answered %d", resp.StatusCode)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// post sends some reports.
func (h *hostileAgent) post(ctx context.Context) error {
	var reports []string
	for range rand.IntN(20) {
		r := h.report()
		h.count(len(r))
		reports = append(reports, r)
	}
	return h.send(ctx, strings.NewReader("["+strings.Join(reports, ",")+"]"))
}

// postLarge sends bodies beyond the limits of size.
func (h *hostileAgent) postLarge(ctx context.Context) error {
	body := []string{
		strings.Repeat("[", 8<<20), "[" + strings.Repeat("0,", 4<<20-2) + "0]", strings.Repeat("{}", 4<<20),
		`{"v":1,"endpoint":"hostile","hello":{"unfinished":[` + strings.Repeat("{},", 2<<20) + `{}]}}`, strings.Repeat(" ", 9<<20),
	}[rand.IntN(5)]
	h.count(len(body))
	var reader io.Reader = strings.NewReader(body)
	if rand.IntN(2) == 0 {
		reader = io.MultiReader(reader) // without a Content-Length
	}
	return h.send(ctx, reader)
}

// postSlowly begins many requests that send nothing for a time.
func (h *hostileAgent) postSlowly(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var requests sync.WaitGroup
	for range 50 {
		requests.Go(func() {
			reader, writer := io.Pipe()
			defer context.AfterFunc(ctx, func() { _ = writer.CloseWithError(ctx.Err()) })() // ends the request
			_ = h.send(ctx, io.MultiReader(strings.NewReader("["), reader))                 // fails after the time
		})
	}
	requests.Wait()
	return nil
}

// publish opens a connection to the broker and publishes until it is closed or has sent n
// reports, with a pause after each.
func (h *hostileAgent) publish(ctx context.Context, n int, pause time.Duration) error {
	conn, err := amqp.Dial(strings.Replace(h.server, "://", "://"+hostileEndpoint+":"+h.secret+"@", 1))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	const perChannel = 5000
	for ; ctx.Err() == nil && n > 0; n -= perChannel {
		ch, err := conn.Channel()
		if err != nil {
			return err
		}
		if err := h.publishOn(ctx, ch, min(n, perChannel), pause); err != nil {
			return err
		}
		_ = ch.Close() // the connection may be closed
	}
	return nil
}

// publishOn publishes n messages on a channel, or until the broker closes it. Large messages
// are rare, because they burden the broker.
func (h *hostileAgent) publishOn(ctx context.Context, ch *amqp.Channel, n int, pause time.Duration) error {
	for range n {
		body, key := []byte(h.report()), hostileEndpoint
		switch rand.IntN(3000) {
		case 0:
			body = bytes.Repeat([]byte(" "), rand.IntN(20<<20))
		case 1:
			key = "web-1"
		case 2:
			body = fmt.Appendf(nil, `{"v":1,"endpoint":"hostile","heartbeat":{"labels":{"a":"%s"}}}`, strings.Repeat("x", 2<<20-100))
		}
		h.count(len(body))
		err := ch.PublishWithContext(ctx, "tasker.reports", key, false, false, amqp.Publishing{UserId: hostileEndpoint, Body: body})
		if err != nil {
			return err
		}
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}
