package fleetbench

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

// spreadCallers is the number of concurrent callers with Options.Spread.
const spreadCallers = 128

// The state of a task is polled every minPollInterval, or every pollFraction-th of the
// time since its start if that is longer, since polling costs processor time. Measured
// times are too long by at most one interval.
const (
	minPollInterval = 4 * time.Millisecond
	pollFraction    = 100
)

// createTasks creates the tasks and records their times and costs in r.
func createTasks(ctx context.Context, o Options, env *environment, p *controlPlane, m *meter, r *Result) (err error) {
	d := &driver{Options: o, plane: p, payload: payload(o.Payload), names: make([]string, o.Endpoints)}
	if env.dsn != "" {
		if d.db, err = sql.Open("mysql", env.dsn); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.db.Close()) }()
	}
	for i := range d.names {
		d.names[i] = endpointName(i)
	}
	// The first task has cold caches and connections.
	if _, err := d.measureOne(ctx); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	updates, err := p.updates(ctx, o.Endpoints)
	if err != nil {
		return err
	}
	before := m.read(ctx)
	began := time.Now()
	var ids []string
	if o.Spread {
		ids, err = d.createSpread(ctx)
	} else {
		err = d.createSequentially(ctx)
	}
	if err != nil {
		return err
	}
	took := time.Since(began)
	r.Usage = m.read(ctx).since(before)
	if o.Spread {
		if err := d.verify(ctx, ids); err != nil {
			return err
		}
	}
	responses := o.Tasks
	if !o.Spread {
		responses *= o.Endpoints
	}
	if r.Updates, err = p.updates(ctx, int(updates)+responses); err != nil {
		return err
	}
	r.Updates -= updates
	r.Post, r.Received, r.Finished = percentiles(d.post), percentiles(d.received), percentiles(d.finished)
	r.PostMS, r.ReceivedMS, r.FinishedMS = r.Post.P50, r.Received.P50, r.Finished.P50
	if o.Spread {
		r.ReceivedMS, r.FinishedMS = milliseconds(took), milliseconds(took)
	}
	r.TasksPerSecond = float64(o.Tasks) / took.Seconds()
	r.ResponsesPerSecond = float64(responses) / took.Seconds()
	return nil
}

// driver creates tasks and measures them.
type driver struct {
	Options
	plane   *controlPlane
	payload json.RawMessage
	names   []string
	// db is the database of the tasks. Polling it costs the control plane nothing. It is
	// nil with SQLite, where the API is polled.
	db *sql.DB

	mu                       sync.Mutex
	post, received, finished []time.Duration
}

// payload returns a JSON document of n bytes, or of the least possible size.
func payload(n int) json.RawMessage {
	const frame = len(`{"pad":""}`)
	return json.RawMessage(`{"pad":"` + strings.Repeat("x", max(0, n-frame)) + `"}`)
}

func (d *driver) create(ctx context.Context, names ...string) (tasker.Task, error) {
	wait := tasker.Duration(waitLimit)
	began := time.Now()
	t, err := d.plane.client.Create(ctx, taskType, client.Request{
		Identifier: uuid.NewString(), Payload: d.payload, Endpoints: names, ReceiveTimeout: &wait,
	})
	took := time.Since(began)
	d.mu.Lock()
	d.post = append(d.post, took)
	d.mu.Unlock()
	return t, err
}

// times are the durations from before the POST of a task.
type times struct{ received, finished time.Duration }

// createSequentially creates each task for all endpoints and waits for its end.
func (d *driver) createSequentially(ctx context.Context) error {
	d.post = nil
	for range d.Tasks {
		t, err := d.measureOne(ctx)
		if err != nil {
			return err
		}
		d.received, d.finished = append(d.received, t.received), append(d.finished, t.finished)
		d.Logf("a task to %d endpoints: received after %s, finished after %s", d.Endpoints,
			t.received.Round(time.Millisecond), t.finished.Round(time.Millisecond))
	}
	return nil
}

// measureOne creates one task for all endpoints and waits for its end.
func (d *driver) measureOne(ctx context.Context) (times, error) {
	var t times
	began := time.Now()
	task, err := d.create(ctx, d.names...)
	if err != nil {
		return t, err
	}
	err = until(ctx, "the task to end", pollInterval(began), func() (bool, error) {
		if err := d.poll(ctx, &task); err != nil {
			return false, errors.Join(err, d.plane.failed())
		}
		if t.received == 0 && task.Counts[tasker.Pending]+task.Counts[tasker.Sent] == 0 {
			t.received = time.Since(began)
		}
		t.finished = time.Since(began)
		return task.FinishedAt != nil, nil
	})
	if err == nil && task.Status != tasker.TaskSucceeded {
		err = fmt.Errorf("the task ended as %s: %+v", task.Status, task.Counts)
	}
	return t, err
}

// poll reads the state of a task.
func (d *driver) poll(ctx context.Context, t *tasker.Task) error {
	if d.db == nil {
		now, err := d.plane.client.List(ctx, taskType, client.ListOptions{Limit: 1})
		if err == nil && len(now.Tasks) > 0 && now.Tasks[0].ID == t.ID {
			*t = now.Tasks[0]
		}
		return err
	}
	var counts []byte
	var finished sql.NullInt64
	err := d.db.QueryRowContext(ctx, "SELECT status, counts, finished_at FROM tasks WHERE id = ?", t.ID).Scan(&t.Status, &counts, &finished)
	if err != nil {
		return fmt.Errorf("read the state of the task: %w", err)
	}
	if finished.Valid {
		at := time.UnixMicro(finished.Int64)
		t.FinishedAt = &at
	}
	t.Counts = nil
	return json.Unmarshal(counts, &t.Counts)
}

// createSpread creates the tasks for one endpoint each, waits for the end of all and
// returns their ids.
func (d *driver) createSpread(ctx context.Context) ([]string, error) {
	d.post = nil
	began := time.Now()
	var next atomic.Int64
	var failed error
	var once sync.Once
	var work sync.WaitGroup
	ids := make([]string, d.Tasks)
	for range min(spreadCallers, d.Tasks) {
		work.Go(func() {
			for i := int(next.Add(1)) - 1; i < d.Tasks && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				t, err := d.create(ctx, d.names[i%len(d.names)])
				if err != nil {
					once.Do(func() { failed = err })
					return
				}
				ids[i] = t.ID
			}
		})
	}
	work.Wait()
	if failed != nil {
		return nil, failed
	}
	for _, status := range []tasker.TaskStatus{tasker.TaskPending, tasker.TaskSent, tasker.TaskRunning} {
		err := until(ctx, "the tasks to end", pollInterval(began), func() (bool, error) {
			page, err := d.plane.client.List(ctx, taskType, client.ListOptions{Status: string(status), Limit: 1})
			return len(page.Tasks) == 0, errors.Join(err, d.plane.failed())
		})
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// pollInterval returns the interval for polling something that started at began.
func pollInterval(began time.Time) func() time.Duration {
	return func() time.Duration { return max(minPollInterval, time.Since(began)/pollFraction) }
}

// verify checks that all tasks succeeded, and reads their times.
func (d *driver) verify(ctx context.Context, ids []string) error {
	missing := make(map[string]bool, len(ids))
	for _, id := range ids {
		missing[id] = true
	}
	for q := (client.ListOptions{Limit: 200}); len(missing) > 0; {
		page, err := d.plane.client.List(ctx, taskType, q)
		if err != nil {
			return err
		}
		for _, t := range page.Tasks {
			if !missing[t.ID] {
				continue
			}
			delete(missing, t.ID)
			if t.Status != tasker.TaskSucceeded {
				return fmt.Errorf("task %s ended as %s", t.ID, t.Status)
			}
			d.finished = append(d.finished, t.FinishedAt.Sub(t.CreatedAt))
		}
		if q.Cursor = page.Next; q.Cursor == "" && len(missing) > 0 {
			return fmt.Errorf("%d tasks are not listed", len(missing))
		}
	}
	d.received = d.finished
	return nil
}
