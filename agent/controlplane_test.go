package agent_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// controlPlane is a fake control plane that applies reports like the real one. Agents
// connect over HTTP. For tests with a fake clock or with faults of the link, a direct
// controlPlane is itself the agent's Link.
type controlPlane struct {
	direct bool

	// time is the clock of the control plane.
	time      func() time.Time
	heartbeat time.Duration

	mu             sync.Mutex
	changed        chan struct{}
	closed         chan struct{}
	down           bool
	ignoreHellos   bool
	refuse         func(tasker.Report) bool
	key            ed25519.PrivateKey // signs the welcomes, if not nil
	endorsements   []tasker.Endorsement
	batches        [][]tasker.Order
	unacknowledged int // counts batches that were not acknowledged
	reports        []tasker.Report
	responses      map[journal.Ref]tasker.Response
	output         map[journal.Ref]map[int64]byte
}

func newControlPlane() *controlPlane {
	return &controlPlane{
		time: time.Now, heartbeat: time.Hour,
		changed: make(chan struct{}), closed: make(chan struct{}),
		responses: map[journal.Ref]tasker.Response{}, output: map[journal.Ref]map[int64]byte{},
	}
}

func newDirectControlPlane() *controlPlane {
	cp := newControlPlane()
	cp.direct = true
	return cp
}

var _ transport.Link = (*controlPlane)(nil)

// change changes fields of cp, and wakes up those that wait for a condition.
func (cp *controlPlane) change(fn func()) {
	cp.mu.Lock()
	fn()
	close(cp.changed)
	cp.changed = make(chan struct{})
	cp.mu.Unlock()
}

// wait waits until a condition holds. The condition may read the fields of cp.
func (cp *controlPlane) wait(t testing.TB, what string, condition func() bool) {
	t.Helper()
	timeout := time.After(testTimeout)
	for {
		cp.mu.Lock()
		ok, changed := condition(), cp.changed
		cp.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			cp.mu.Lock()
			defer cp.mu.Unlock()
			t.Fatalf("timeout waiting for %s; responses: %+v", what, cp.responses)
		}
	}
}

func (cp *controlPlane) Send(_ context.Context, reports ...tasker.Report) error {
	// Encoding and decoding copies the reports, as a transport does.
	data, err := json.Marshal(reports)
	if err != nil {
		return err
	}
	reports = nil
	if err := json.Unmarshal(data, &reports); err != nil {
		return err
	}
	failed := map[int]error{}
	down := false
	cp.change(func() {
		if down = cp.down; down {
			return
		}
		for i, r := range reports {
			if cp.refuse != nil && cp.refuse(r) {
				failed[i] = transport.ErrRefused
				continue
			}
			cp.apply(r)
		}
	})
	switch {
	case down:
		return transport.ErrUnavailable
	case len(failed) > 0:
		return &transport.SendError{Failed: failed, Of: len(reports)}
	}
	return nil
}

// apply applies a report. cp.mu must be held.
func (cp *controlPlane) apply(r tasker.Report) {
	cp.reports = append(cp.reports, r)
	if r.Hello != nil && !cp.ignoreHellos {
		welcome := tasker.Order{
			Version: 1, Endpoint: r.Endpoint,
			Welcome: &tasker.Welcome{Session: r.Hello.Session, Now: cp.time(), Heartbeat: tasker.Duration(cp.heartbeat), Keys: cp.endorsements},
		}
		if cp.key != nil {
			_ = welcome.Sign(cp.key)
		}
		cp.batches = append(cp.batches, []tasker.Order{welcome})
	}
	if u := r.Update; u != nil {
		ref := journal.Ref{TaskID: u.TaskID, Attempt: u.Attempt}
		response, ok := cp.responses[ref]
		if !ok {
			response = tasker.Response{TaskID: u.TaskID, Attempt: u.Attempt, Status: tasker.Sent}
		}
		cp.responses[ref], _ = response.Apply(*u)
		if cp.output[ref] == nil {
			cp.output[ref] = map[int64]byte{}
		}
		for _, c := range u.Output {
			for i, b := range c.Data {
				cp.output[ref][c.Offset+int64(i)] = b
			}
		}
	}
}

func (cp *controlPlane) Receive(ctx context.Context, handle func(context.Context, []tasker.Order) error) error {
	if err := handle(ctx, nil); err != nil {
		return err
	}
	for {
		cp.mu.Lock()
		var batch []tasker.Order
		ready := len(cp.batches) > 0 && !cp.down
		if ready {
			batch = cp.batches[0]
		}
		changed := cp.changed
		cp.mu.Unlock()
		if ready {
			if err := handle(ctx, batch); err != nil {
				cp.change(func() { cp.unacknowledged++ })
				select {
				case <-time.After(10 * time.Millisecond):
					continue
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			cp.change(func() { cp.batches = cp.batches[1:] })
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-cp.closed:
			return transport.ErrClosed
		}
	}
}

func (cp *controlPlane) Close() error { close(cp.closed); return nil }

// deliver sends one batch of orders to the agent.
func (cp *controlPlane) deliver(orders ...tasker.Order) {
	cp.change(func() { cp.batches = append(cp.batches, orders) })
}

func (cp *controlPlane) response(id string, attempt int) tasker.Response {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	return cp.responses[journal.Ref{TaskID: id, Attempt: attempt}]
}

// waitEnded waits until the first attempt of a task has ended.
func (cp *controlPlane) waitEnded(t testing.TB, id string) tasker.Response {
	t.Helper()
	cp.waitStatus(t, id, tasker.Succeeded)
	return cp.response(id, 1)
}

// waitStatus waits until the first attempt of a task has reached a status.
func (cp *controlPlane) waitStatus(t testing.TB, id string, status tasker.ResponseStatus) {
	t.Helper()
	cp.wait(t, id+" to be "+string(status), func() bool {
		return cp.responses[journal.Ref{TaskID: id, Attempt: 1}].Status.Rank() >= status.Rank()
	})
}

// updates returns the updates of a task in the order of their arrival.
func (cp *controlPlane) updates(id string) []tasker.Update {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	var all []tasker.Update
	for _, r := range cp.reports {
		if r.Update != nil && r.Update.TaskID == id {
			all = append(all, *r.Update)
		}
	}
	return all
}

// outputOf returns the output of a task, with '.' for each missing byte before its end.
func (cp *controlPlane) outputOf(id string) string {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	out := cp.output[journal.Ref{TaskID: id, Attempt: 1}]
	var b strings.Builder
	for i, n := int64(0), 0; n < len(out); i++ {
		if c, ok := out[i]; ok {
			b.WriteByte(c)
			n++
		} else {
			b.WriteByte('.')
		}
	}
	return b.String()
}
