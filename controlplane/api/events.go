package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

const eventsPath = "/events"

// The rhythm of a stream of events.
const (
	// eventsPoll finds what another control plane wrote.
	eventsPoll = time.Second
	// eventsPause gathers the changes of a busy task into one event.
	eventsPause = 100 * time.Millisecond
	// eventsKeepalive is below the idle timeouts of usual proxies.
	eventsKeepalive = 15 * time.Second
	// eventsLook is how often it is looked who has fallen silent.
	eventsLook = 5 * time.Second
	// eventsWrite is the time a client has to take an event.
	eventsWrite = 30 * time.Second
)

type eventsInput struct {
	Ref   string `path:"ref" doc:"The task's id, or its identifier, percent-encoded."`
	After int64  `header:"Last-Event-ID" minimum:"0" doc:"The id of the last event received, to go on from there."`
}

func (r taskRoutes) eventRoute() {
	op := r.operation(http.MethodGet, "/{ref}"+eventsPath, "events", "Watch a task", eventsText)
	op.Responses = eventsResponses()
	huma.Register(r.huma, op, r.events)
}

func (r taskRoutes) events(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	if err := r.look(ctx, in.Ref); err != nil {
		return nil, err
	}
	task, err := r.store.Task(ctx, r.Name, in.Ref)
	if err != nil {
		return nil, r.failure(ctx, err, r.absent(in.Ref))
	}
	seen(ctx).task = task.ID
	if in.After > task.Version {
		in.After = 0 // an id of another life of the database
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		req, w := humago.Unwrap(hctx)
		if task.FinishedAt != nil && in.After == task.Version {
			w.WriteHeader(http.StatusNoContent) // tells an EventSource not to come again
			return
		}
		s := stream{w: w, rc: http.NewResponseController(w)}
		s.open()
		if req.Method == http.MethodHead {
			return
		}
		r.metrics.watchers.Inc()
		defer r.metrics.watchers.Dec()
		r.follow(ctx, &s, task.ID, in.After)
	}}, nil
}

// follow sends the state of a task and then what changes, until it has finished.
func (r taskRoutes) follow(ctx context.Context, s *stream, id string, after int64) {
	wake, cancel := r.watch.Subscribe(id)
	defer cancel()
	poll := time.NewTicker(eventsPoll)
	defer poll.Stop()
	alive := time.NewTicker(eventsKeepalive)
	defer alive.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	look := time.NewTicker(eventsLook)
	defer look.Stop()
	defer s.close()
	silent := silences{known: map[string]bool{}}
	for {
		select { // at most one event in each pause
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		pause.Reset(eventsPause)
		task, responses, err := r.store.Changes(ctx, id, after)
		switch {
		case err == nil && (task.Version > after || task.FinishedAt != nil):
			if s.event(task.Version, withResponses(task, responses)); task.FinishedAt != nil {
				return
			}
			after = task.Version
			silent.told(responses)
			alive.Reset(eventsKeepalive)
		case errors.Is(err, store.ErrNotFound):
			return
		case err != nil && ctx.Err() == nil:
			r.log.WarnContext(ctx, "stream of events cannot be read on", "task", id, "type", r.Name, "error", err)
			s.comment("the database cannot be read now")
		}
		if err == nil && silent.due {
			open, err := r.store.OpenResponses(ctx, id)
			if err == nil {
				open = silent.changed(open)
			}
			if len(open) > 0 {
				s.event(task.Version, withResponses(task, open))
				alive.Reset(eventsKeepalive)
			}
		}
		for waiting := s.err == nil; waiting; {
			select {
			case <-wake:
				waiting = false
			case <-poll.C:
				waiting = false
			case <-look.C:
				silent.due, waiting = true, false
			case <-alive.C:
				s.comment("still here")
				waiting = s.err == nil
			case <-r.draining:
				return
			case <-ctx.Done():
				return
			}
		}
		if s.err != nil {
			return
		}
	}
}

// silences are the endpoints of which a stream has told that they are silent. That is
// no change of a response, so it is looked for from time to time.
type silences struct {
	known map[string]bool
	// due: it is time to look.
	due bool
}

// told notes what was sent.
func (s *silences) told(sent []tasker.Response) {
	for _, r := range sent {
		if r.SilentSince != nil {
			s.known[r.Endpoint] = true
		} else {
			delete(s.known, r.Endpoint)
		}
	}
}

// changed are those of the open responses that are to be sent, and notes them.
func (s *silences) changed(open []tasker.Response) []tasker.Response {
	changed := slices.DeleteFunc(open, func(r tasker.Response) bool { return s.known[r.Endpoint] == (r.SilentSince != nil) })
	s.due = false
	s.told(changed)
	return changed
}

// stream writes server-sent events. After the first error it does nothing more.
type stream struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	err error
}

func (s *stream) open() {
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would collect events
	s.w.WriteHeader(http.StatusOK)
	s.write([]byte("retry: 1000\n\n"))
}

// event writes v as one event; JSON has no line ends of its own.
func (s *stream) event(id int64, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		s.err = err
		return
	}
	s.write(fmt.Appendf(nil, "id: %d\ndata: %s\n\n", id, data))
}

func (s *stream) comment(text string) { s.write([]byte(": " + text + "\n\n")) }

// write gives the client its time for each piece, not for the whole.
func (s *stream) write(b []byte) {
	if s.err != nil {
		return
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(eventsWrite)) // not every writer can
	if _, s.err = s.w.Write(b); s.err == nil {
		s.err = s.rc.Flush()
	}
}

// close lets the connection be used again.
func (s *stream) close() { _ = s.rc.SetWriteDeadline(time.Time{}) }
