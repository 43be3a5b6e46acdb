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

// posters is how many callers create tasks at the same time when they are spread.
const posters = 128

// look is how often is looked how far a task is; of what takes long, only each
// looks-th part of the time that it has taken, because to look is work, too. The times
// are exact to that, and too long rather than too short.
const (
	look  = 4 * time.Millisecond
	looks = 100
)

// drive creates the tasks and enters into r what became of them.
func drive(ctx context.Context, o Options, g *ground, p *plane, m *meter, r *Result) (err error) {
	d := &driver{Options: o, plane: p, payload: payload(o.Payload), names: make([]string, o.Endpoints)}
	if g.dsn != "" {
		if d.db, err = sql.Open("mysql", g.dsn); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.db.Close()) }()
	}
	for i := range d.names {
		d.names[i] = endpoint(i)
	}
	// The first task finds caches and connections cold, as no later one does.
	if _, err := d.one(ctx); err != nil {
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
		ids, err = d.spread(ctx)
	} else {
		err = d.inTurn(ctx)
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

type driver struct {
	Options
	plane   *plane
	payload json.RawMessage
	names   []string
	// db is where tasks are stored, so that nobody is kept busy by being asked how far
	// one is; nil for SQLite, of which the API is asked.
	db *sql.DB

	mu                       sync.Mutex
	post, received, finished []time.Duration
}

// payload is JSON of n bytes, as far as that is possible.
func payload(n int) json.RawMessage {
	const frame = len(`{"pad":""}`)
	return json.RawMessage(`{"pad":"` + strings.Repeat("x", max(0, n-frame)) + `"}`)
}

func (d *driver) create(ctx context.Context, names ...string) (tasker.Task, error) {
	wait := tasker.Duration(patience)
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

// times are how long a task took, from before it was posted.
type times struct{ received, finished time.Duration }

// inTurn hands each task to all endpoints and waits for its end.
func (d *driver) inTurn(ctx context.Context) error {
	d.post = nil
	for range d.Tasks {
		t, err := d.one(ctx)
		if err != nil {
			return err
		}
		d.received, d.finished = append(d.received, t.received), append(d.finished, t.finished)
		d.Say("a task to %d endpoints: received after %s, finished after %s", d.Endpoints,
			t.received.Round(time.Millisecond), t.finished.Round(time.Millisecond))
	}
	return nil
}

func (d *driver) one(ctx context.Context) (times, error) {
	var t times
	began := time.Now()
	task, err := d.create(ctx, d.names...)
	if err != nil {
		return t, err
	}
	err = until(ctx, "the task to end", paced(began), func() (bool, error) {
		if err := d.see(ctx, &task); err != nil {
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

// see reads how far a task is.
func (d *driver) see(ctx context.Context, t *tasker.Task) error {
	if d.db == nil {
		now, err := d.plane.client.List(ctx, taskType, client.Query{Limit: 1})
		if err == nil && len(now.Tasks) > 0 && now.Tasks[0].ID == t.ID {
			*t = now.Tasks[0]
		}
		return err
	}
	var counts []byte
	var finished sql.NullInt64
	err := d.db.QueryRowContext(ctx, "SELECT status, counts, finished_at FROM tasks WHERE id = ?", t.ID).Scan(&t.Status, &counts, &finished)
	if err != nil {
		return fmt.Errorf("look how far the task is: %w", err)
	}
	if finished.Valid {
		at := time.UnixMicro(finished.Int64)
		t.FinishedAt = &at
	}
	t.Counts = nil
	return json.Unmarshal(counts, &t.Counts)
}

// spread hands the tasks to one endpoint each, waits for the end of all and
// returns their ids.
func (d *driver) spread(ctx context.Context) ([]string, error) {
	d.post = nil
	began := time.Now()
	var next atomic.Int64
	var failed error
	var once sync.Once
	var work sync.WaitGroup
	ids := make([]string, d.Tasks)
	for range min(posters, d.Tasks) {
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
		err := until(ctx, "the tasks to end", paced(began), func() (bool, error) {
			page, err := d.plane.client.List(ctx, taskType, client.Query{Status: string(status), Limit: 1})
			return len(page.Tasks) == 0, errors.Join(err, d.plane.failed())
		})
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// paced is how long to wait for what began then, before the next look.
func paced(began time.Time) func() time.Duration {
	return func() time.Duration { return max(look, time.Since(began)/looks) }
}

// verify reads the times of the tasks, all of which must have succeeded.
func (d *driver) verify(ctx context.Context, ids []string) error {
	mine := make(map[string]bool, len(ids))
	for _, id := range ids {
		mine[id] = true
	}
	for q := (client.Query{Limit: 200}); len(mine) > 0; {
		page, err := d.plane.client.List(ctx, taskType, q)
		if err != nil {
			return err
		}
		for _, t := range page.Tasks {
			if !mine[t.ID] {
				continue
			}
			delete(mine, t.ID)
			if t.Status != tasker.TaskSucceeded {
				return fmt.Errorf("task %s ended as %s", t.ID, t.Status)
			}
			d.finished = append(d.finished, t.FinishedAt.Sub(t.CreatedAt))
		}
		if q.Cursor = page.Next; q.Cursor == "" && len(mine) > 0 {
			return fmt.Errorf("%d tasks are not listed", len(mine))
		}
	}
	d.received = d.finished
	return nil
}
