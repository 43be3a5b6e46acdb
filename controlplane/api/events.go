package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/watch"
)

const eventsPath = "/events"

// The intervals of an event stream.
const (
	// eventPollInterval bounds the delay of a change that another control plane wrote.
	eventPollInterval = time.Second
	// minEventInterval gathers the changes of a busy task into one event.
	minEventInterval = 100 * time.Millisecond
	// keepaliveInterval is below the idle timeouts of common proxies.
	keepaliveInterval = 15 * time.Second
	// silencePolls is how many polls pass between checks for silent endpoints.
	silencePolls = 5
	// eventWriteTimeout bounds the time in which a client must receive an event.
	eventWriteTimeout = 30 * time.Second
)

// eventResource streams the events of the tasks of one type.
type eventResource struct {
	typeResource
	poller   *watch.Poller
	watchers prometheus.Gauge
	draining <-chan struct{}
}

type eventsInput struct {
	Ref   string `path:"ref" doc:"The task's id, or its identifier, percent-encoded."`
	After int64  `header:"Last-Event-ID" minimum:"0" doc:"The id of the last event received; the stream continues after it."`
}

func (r eventResource) register() {
	op := r.operation(http.MethodGet, "/{ref}"+eventsPath, "events", "Watch a task",
		"A stream of server-sent events. The first event has the task with all its responses. Each further event has the task and the responses that changed, "+
			"or whose endpoint became silent or reported again (`silent_since`; a resumed stream repeats the silent endpoints). "+
			"The id of an event is the `version` of the task. A request with this id as `Last-Event-ID` resumes the stream after the event. "+
			"The stream ends when the task has finished; resuming it after that answers 204.")
	op.Responses = map[string]*huma.Response{
		"200": {Description: "The stream.", Content: map[string]*huma.MediaType{"text/event-stream": {
			Schema:  &huma.Schema{Type: huma.TypeString},
			Example: "retry: 1000\n\nid: 3\ndata: {\"task\":{\"status\":\"running\",…},\"responses\":[{\"endpoint\":\"loadbalancer-1\",\"status\":\"running\",…},…]}\n\n",
		}}},
		"204": {Description: "The task has finished, and has no event after the given Last-Event-ID."},
	}
	huma.Register(r.huma, op, r.events)
}

func (r eventResource) events(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	if err := r.checkRef(ctx, in.Ref); err != nil {
		return nil, err
	}
	task, err := r.store.Task(ctx, r.taskType.Name, in.Ref)
	if err != nil {
		return nil, r.problem(ctx, err, r.notFound(in.Ref))
	}
	recordOf(ctx).task = task.ID
	version := in.After
	if version > task.Version {
		version = 0 // the database was restored from a backup
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		req, w := humago.Unwrap(hctx)
		if task.FinishedAt != nil && version == task.Version {
			w.WriteHeader(http.StatusNoContent) // an EventSource then does not reconnect
			return
		}
		out := &eventWriter{w: w, rc: http.NewResponseController(w)}
		out.open()
		if req.Method == http.MethodHead {
			return
		}
		r.watchers.Inc()
		defer r.watchers.Dec()
		wake, cancel := r.poller.Subscribe(task.ID, task.Version)
		defer cancel()
		s := eventStream{
			eventResource: r, out: out, wake: wake, taskID: task.ID, version: version,
			silent: map[string]bool{}, silenceChanges: r.poller.SilenceChanges(task.ID),
		}
		s.run(ctx)
	}}, nil
}

// newPoller returns the poller that all event streams share.
func newPoller(o Options) *watch.Poller {
	return watch.NewPoller(watch.PollerOptions{
		Fanout: o.Watch, Interval: eventPollInterval, Version: o.Store.TaskVersion, SilenceEvery: silencePolls,
		Silence: func(ctx context.Context, id string) (string, error) {
			open, err := o.Store.OpenResponses(ctx, id)
			var silent strings.Builder
			for _, r := range open {
				if r.SilentSince != nil {
					silent.WriteString(r.Endpoint + "\n")
				}
			}
			return silent.String(), err
		},
	})
}

// eventStream sends the changes of one task to one client, until the task has finished.
type eventStream struct {
	eventResource
	out     *eventWriter
	wake    <-chan struct{}
	taskID  string
	version int64 // of the task at the last event
	// silent has the endpoints whose last event reported them as silent. Silence does not
	// change the version of a task, so it is checked separately, when silenceDue is set: once
	// after the first event, and after each change of silenceChanges. recheck fires for the
	// first check and after a failed read.
	silent         map[string]bool
	silenceDue     bool
	silenceChanges int64
	recheck        *time.Timer
	keepalive      *time.Ticker
}

func (s *eventStream) run(ctx context.Context) {
	s.keepalive, s.recheck = time.NewTicker(keepaliveInterval), time.NewTimer(silencePolls*eventPollInterval)
	defer s.keepalive.Stop()
	defer s.recheck.Stop()
	defer s.out.close()
	throttle := time.NewTimer(0)
	defer throttle.Stop()
	for {
		select { // at most one event in each interval
		case <-throttle.C:
		case <-ctx.Done():
			return
		}
		throttle.Reset(minEventInterval)
		if finished := s.sendChanges(ctx); finished || !s.waitForChanges(ctx) {
			return
		}
	}
}

// sendChanges sends the changes since the last event. It reports whether the task has
// finished.
func (s *eventStream) sendChanges(ctx context.Context) (finished bool) {
	task, responses, err := s.store.Changes(ctx, s.taskID, s.version)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return true
	case err != nil:
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "event stream cannot read the database", "task", s.taskID, "type", s.taskType.Name, "error", err)
			s.out.comment("the database is unavailable")
			s.recheck.Reset(eventPollInterval)
		}
		return false
	case task.Version > s.version || task.FinishedAt != nil:
		s.send(task, responses)
		if task.FinishedAt != nil {
			return true
		}
	}
	if changes := s.poller.SilenceChanges(s.taskID); changes != s.silenceChanges {
		s.silenceChanges, s.silenceDue = changes, true
	}
	if s.silenceDue {
		s.sendSilence(ctx, task)
	}
	return false
}

// sendSilence sends the open responses whose endpoints became silent, or reported again,
// since the last event.
func (s *eventStream) sendSilence(ctx context.Context, task tasker.Task) {
	open, err := s.store.OpenResponses(ctx, s.taskID)
	if err != nil {
		s.recheck.Reset(eventPollInterval)
		return
	}
	s.silenceDue = false
	changed := slices.DeleteFunc(open, func(r tasker.Response) bool { return s.silent[r.Endpoint] == (r.SilentSince != nil) })
	if len(changed) > 0 {
		s.send(task, changed)
	}
}

func (s *eventStream) send(task tasker.Task, responses []tasker.Response) {
	s.out.event(task.Version, withResponses(task, responses))
	s.version = task.Version
	for _, r := range responses {
		s.silent[r.Endpoint] = r.SilentSince != nil
	}
	s.keepalive.Reset(keepaliveInterval)
}

// waitForChanges waits until the client may need an event, and sends keepalives
// meanwhile. It reports whether the stream goes on.
func (s *eventStream) waitForChanges(ctx context.Context) bool {
	for s.out.err == nil {
		select {
		case <-s.wake:
			return true
		case <-s.recheck.C:
			s.silenceDue = true
			return true
		case <-s.keepalive.C:
			s.out.comment("keepalive")
		case <-s.draining:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// eventWriter writes server-sent events. After the first error it writes nothing.
type eventWriter struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	err error
}

func (w *eventWriter) open() {
	h := w.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // otherwise nginx buffers the events
	w.w.WriteHeader(http.StatusOK)
	w.write([]byte("retry: 1000\n\n"))
}

// event writes v as one event. The data needs one line only: JSON has no line breaks.
func (w *eventWriter) event(id int64, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		w.err = err
		return
	}
	w.write(fmt.Appendf(nil, "id: %d\ndata: %s\n\n", id, data))
}

func (w *eventWriter) comment(text string) { w.write([]byte(": " + text + "\n\n")) }

// write applies the timeout to each piece, not to the whole stream.
func (w *eventWriter) write(b []byte) {
	if w.err != nil {
		return
	}
	_ = w.rc.SetWriteDeadline(time.Now().Add(eventWriteTimeout)) // some writers have no deadline
	if _, w.err = w.w.Write(b); w.err == nil {
		w.err = w.rc.Flush()
	}
}

// close removes the timeout, so that the connection can serve further requests.
func (w *eventWriter) close() { _ = w.rc.SetWriteDeadline(time.Time{}) }
