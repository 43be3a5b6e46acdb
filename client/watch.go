package client

import (
	"bufio"
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
	// resumeTimeout is how long Watch tries to resume an interrupted stream.
	resumeTimeout = 2 * time.Minute
	// idleTimeout is how long a stream may be silent, keepalives included, before it
	// is closed and resumed.
	idleTimeout = 45 * time.Second
	// maxEventSize bounds one event. 10,000 responses with a result each are smaller.
	maxEventSize = 256 << 20
)

// watcher follows the stream of events of one task and resumes it when it is interrupted.
type watcher struct {
	client *Client
	path   string
	show   func(State)
	// state is what the events have reported so far.
	state State
	// lastEventID is where the next stream resumes.
	lastEventID string
}

// run follows streams until the task has finished.
func (w *watcher) run(ctx context.Context) error {
	retry := backoff.Policy{First: 200 * time.Millisecond, Cap: 5 * time.Second}
	var interruptedAt time.Time
	for tries := 0; ; tries++ {
		received, err := w.follow(ctx)
		switch {
		case w.state.Task.FinishedAt != nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("watch the task: %w", context.Cause(ctx))
		case err != nil && !errors.Is(err, ErrUnreachable), w.state.Task.ID == "":
			return err
		case received || interruptedAt.IsZero():
			interruptedAt, tries = time.Now(), 0
		case time.Since(interruptedAt) > resumeTimeout:
			return err
		case w.state.StreamErr == nil:
			w.setStreamErr(err)
		}
		if err := retry.Sleep(ctx, tries); err != nil {
			return fmt.Errorf("watch the task: %w", context.Cause(ctx))
		}
	}
}

// follow opens a stream and reads it to its end. It reports whether it received anything.
func (w *watcher) follow(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(idleTimeout, cancel)
	defer idle.Stop()
	header := http.Header{"Accept": {"text/event-stream"}}
	if w.lastEventID != "" {
		header.Set("Last-Event-ID", w.lastEventID)
	}
	resp, err := w.client.do(ctx, http.MethodGet, w.path, nil, header)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent && w.lastEventID != "" {
		return true, streamError(errors.New("there are no more events of a task that has not finished"))
	}
	for i := range w.state.Responses {
		w.state.Responses[i].SilentSince = nil // the new stream reports silent endpoints again
	}
	if w.state.StreamErr != nil {
		w.setStreamErr(nil)
	}
	return w.readEvents(resp.Body, func() { idle.Reset(idleTimeout) })
}

// readEvents applies the events of a stream (text/event-stream) and calls onLine for
// each line. It reports whether there was a line.
func (w *watcher) readEvents(stream io.Reader, onLine func()) (bool, error) {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, maxEventSize)
	received := false
	var id string
	var data []byte
	for lines.Scan() {
		onLine()
		received = true
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field == "id":
			id = value
		case field == "data":
			data = append(data, value...)
		case lines.Text() == "" && len(data) > 0:
			if err := w.apply(data); err != nil {
				return received, err
			}
			w.lastEventID, data = id, nil
		}
	}
	if err := lines.Err(); err != nil {
		return received, streamError(err)
	}
	return received, streamError(io.ErrUnexpectedEOF)
}

// streamError returns the error of an interrupted stream.
func streamError(err error) error {
	return fmt.Errorf("%w: the stream of events ended: %w", ErrUnreachable, err)
}

// apply updates the task and the responses that an event has changed, and shows the state.
func (w *watcher) apply(event []byte) error {
	var s State
	if err := json.Unmarshal(event, &s); err != nil {
		return streamError(err)
	}
	w.state.Task = s.Task
	for _, r := range s.Responses {
		i, found := slices.BinarySearchFunc(w.state.Responses, r.Endpoint, func(known tasker.Response, name string) int {
			return strings.Compare(known.Endpoint, name)
		})
		if found {
			w.state.Responses[i] = r
		} else {
			w.state.Responses = slices.Insert(w.state.Responses, i, r)
		}
	}
	w.setStreamErr(w.state.StreamErr)
	return nil
}

// setStreamErr sets the reason why no updates are received, and shows the state.
func (w *watcher) setStreamErr(err error) {
	w.state.StreamErr = err
	w.show(State{Task: w.state.Task, Responses: slices.Clone(w.state.Responses), StreamErr: err})
}
