package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

const (
	// patience is how long Watch tries to get an interrupted stream back.
	patience = 2 * time.Minute
	// silence is how long a stream may say nothing, its signs of life included,
	// before it is taken for dead.
	silence = 45 * time.Second
	// maxEvent bounds one event: 10,000 responses with a result each are less.
	maxEvent = 256 << 20
)

// Watch calls show with the state of a task, now and after each change, until
// the task has finished. An interrupted stream is resumed; show is told that this
// fails, as Lost, and when it no longer does. Watch returns ErrUnreachable when it
// has failed for two minutes.
func (c *Client) Watch(ctx context.Context, taskType, ref string, show func(State)) error {
	w := watch{client: c, path: path(taskType, ref, "events"), show: show}
	retry := backoff.Policy{First: 200 * time.Millisecond, Cap: 5 * time.Second}
	var lost time.Time
	for tries := 0; ; tries++ {
		heard, err := w.once(ctx)
		switch {
		case w.state.Task.FinishedAt != nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("watch the task: %w", context.Cause(ctx))
		case err != nil && !errors.Is(err, ErrUnreachable), w.state.Task.ID == "":
			return err
		case heard || lost.IsZero():
			lost, tries = time.Now(), 0
		case time.Since(lost) > patience:
			return err
		case w.state.Lost == nil:
			w.tell(err)
		}
		if err := retry.Sleep(ctx, tries); err != nil {
			return fmt.Errorf("watch the task: %w", context.Cause(ctx))
		}
	}
}

// watch is what is known of one task.
type watch struct {
	client *Client
	path   string
	show   func(State)
	state  State
	last   string
}

// once follows one stream to its end, and says whether anything was heard.
func (w *watch) once(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	alive := time.AfterFunc(silence, cancel)
	defer alive.Stop()
	header := http.Header{"Accept": {"text/event-stream"}}
	if w.last != "" {
		header.Set("Last-Event-ID", w.last)
	}
	resp, err := w.client.do(ctx, http.MethodGet, w.path, nil, header)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent && w.last != "" {
		return true, w.refuse(errors.New("it says that nothing is left to tell of a task that has not finished"))
	}
	for i := range w.state.Responses {
		w.state.Responses[i].SilentSince = nil // who is silent is told anew
	}
	if w.state.Lost != nil {
		w.tell(nil)
	}
	events := bufio.NewScanner(resp.Body)
	events.Buffer(nil, maxEvent)
	heard := false
	var id string
	var data []byte
	for events.Scan() {
		alive.Reset(silence)
		heard = true
		field, value, _ := strings.Cut(events.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field == "id":
			id = value
		case field == "data":
			data = append(data, value...)
		case events.Text() == "" && len(data) > 0:
			if err := w.event(data); err != nil {
				return heard, err
			}
			w.last, data = id, nil
		}
	}
	if err := events.Err(); err != nil {
		return heard, w.refuse(err)
	}
	return heard, w.refuse(io.ErrUnexpectedEOF)
}

func (w *watch) refuse(err error) error {
	return fmt.Errorf("%w: the stream of events ended: %w", ErrUnreachable, err)
}

// event takes in the task and the responses that changed.
func (w *watch) event(data []byte) error {
	var s State
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&s); err != nil {
		return w.refuse(err)
	}
	w.state.Task = s.Task
	for _, r := range s.Responses {
		i, found := slices.BinarySearchFunc(w.state.Responses, r.Endpoint, func(have tasker.Response, name string) int {
			return strings.Compare(have.Endpoint, name)
		})
		if found {
			w.state.Responses[i] = r
		} else {
			w.state.Responses = slices.Insert(w.state.Responses, i, r)
		}
	}
	w.tell(w.state.Lost)
	return nil
}

// tell shows the state, and why no more is heard of it.
func (w *watch) tell(lost error) {
	w.state.Lost = lost
	w.show(State{Task: w.state.Task, Responses: slices.Clone(w.state.Responses), Lost: lost})
}
