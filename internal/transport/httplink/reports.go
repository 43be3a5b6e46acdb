package httplink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

const (
	// patience is how long a POST of reports waits to be stored before it is
	// answered with 503; the agent then sends the reports again.
	patience = 20 * time.Second
	// bodyTimeout is how long an agent may take to send a POST.
	bodyTimeout = 30 * time.Second
	// lull is for how long heartbeats wait for company, unless something else comes:
	// each has little to store, and a transaction costs many times as much.
	lull = 200 * time.Millisecond
)

// post is a POST of reports, or a part of one, on its way to Receive.
type post struct {
	reports []tasker.Report
	// raw are the same, to be decoded anew when they must be handed over again.
	raw []json.RawMessage
	// stored takes one answer; it has room for it.
	stored chan error
}

// urgent says whether there is more than heartbeats.
func (p post) urgent() bool {
	return slices.ContainsFunc(p.reports, func(r tasker.Report) bool { return r.Heartbeat == nil })
}

// serveReports is POST /agent/v1/reports.
func (h *Hub) serveReports(w http.ResponseWriter, r *http.Request) {
	name, refusal := h.speaker(r)
	if refusal == nil {
		refusal = h.take(w, r, name)
	}
	if refusal == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if refusal.Status != http.StatusServiceUnavailable {
		h.opts.Log.Warn("reports refused", "endpoint", name, "status", refusal.Status, "error", refusal)
	}
	refusal.answer(w)
}

// take reads the reports and has them stored.
func (h *Hub) take(w http.ResponseWriter, r *http.Request, name string) *problem {
	size := r.ContentLength
	switch {
	case size > maxBody:
		return tooLarge()
	case size < 0:
		size = maxBody
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	if h.bodies.Acquire(ctx, size) != nil {
		return failure(http.StatusServiceUnavailable, "too many reports wait to be stored; send them again")
	}
	defer h.bodies.Release(size)
	body, refusal := read(w, r)
	if refusal != nil {
		return refusal
	}
	p, refusal := h.decode(body, name)
	if refusal != nil {
		return refusal
	}
	if refusal := h.allow(r, name); refusal != nil { // reading may have taken long
		return refusal
	}
	for _, report := range p.reports {
		h.learn(report)
	}
	for len(p.reports) > 0 {
		n := min(maxPost, len(p.reports))
		err := h.store(r.Context(), post{reports: p.reports[:n:n], raw: p.raw[:n], stored: make(chan error, 1)})
		if err != nil {
			return failure(http.StatusServiceUnavailable, "the reports cannot be stored now; send them again: %v", err)
		}
		p.reports, p.raw = p.reports[n:], p.raw[n:]
	}
	return nil
}

// read reads the body, within its limits of size and time.
func read(w http.ResponseWriter, r *http.Request) ([]byte, *problem) {
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
		return nil, failure(http.StatusInternalServerError, "this server cannot limit the time of a request: %v", err)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge()
	case err != nil:
		return nil, failure(http.StatusRequestTimeout, "read the reports: %v", err)
	}
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		return nil, failure(http.StatusInternalServerError, "end the time limit of a request: %v", err)
	}
	return body, nil
}

func tooLarge() *problem {
	return failure(http.StatusRequestEntityTooLarge, "one request may have %d bytes of reports", maxBody)
}

// decode finds the reports that are to be handed over.
func (h *Hub) decode(body []byte, name string) (post, *problem) {
	raws, err := split(body)
	if err != nil {
		return post{}, failure(http.StatusBadRequest, "the body is neither a JSON array of reports nor one report a line: %v", err)
	}
	var p post
	for i, raw := range raws {
		r, err := decodeReport(raw)
		switch {
		case errors.Is(err, errVersion):
			h.opts.Metrics.refuse()
			h.opts.Log.Error("report is of a newer version and is dropped; upgrade the control plane before the agents",
				"endpoint", name, "known", tasker.MaxWireVersion)
		case err != nil:
			return post{}, failure(http.StatusBadRequest, "report %d %v", i, err).of(i)
		case r.Endpoint != name:
			return post{}, failure(http.StatusForbidden, "report %d is of endpoint %q, but %q speaks", i, r.Endpoint, name).of(i)
		default:
			p.reports, p.raw = append(p.reports, r), append(p.raw, raw)
		}
	}
	return p, nil
}

// split separates the reports of a body.
func split(body []byte) ([]json.RawMessage, error) {
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		var list []json.RawMessage
		err := json.Unmarshal(body, &list)
		return list, err
	}
	var list []json.RawMessage
	lines := json.NewDecoder(bytes.NewReader(body))
	for {
		var raw json.RawMessage
		err := lines.Decode(&raw)
		switch {
		case errors.Is(err, io.EOF) && len(list) == 0:
			return nil, errors.New("it is empty")
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return nil, fmt.Errorf("value %d: %w", len(list), err)
		}
		list = append(list, raw)
	}
}

// store hands the reports to Receive and waits until they are stored.
func (h *Hub) store(ctx context.Context, p post) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case h.posts <- p:
	case <-h.ctx.Done():
		return transport.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-p.stored: // Receive answers, also when it ends
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Receive implements transport.Hub. What is posted while a batch is being stored
// makes the next batch; so does what is posted while heartbeats wait.
func (h *Hub) Receive(ctx context.Context, handle func(context.Context, []tasker.Report) error) error {
	if !h.begin() {
		return transport.ErrClosed
	}
	defer h.work.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.ctx, func() { cancel(context.Cause(h.ctx)) })()
	for {
		select {
		case <-ctx.Done():
			return ended(ctx)
		case p := <-h.posts:
			posts := h.gather(ctx, p)
			var reports []tasker.Report
			var raw []json.RawMessage
			for _, p := range posts {
				reports, raw = append(reports, p.reports...), append(raw, p.raw...)
			}
			err := hand(ctx, h.opts.Log, again(reports, raw, decodeReport), handle)
			if err != nil {
				err = ended(ctx)
			}
			for _, p := range posts {
				p.stored <- err
			}
			if err != nil {
				return err
			}
		}
	}
}

// gather adds to the first post those that wait already and fit a batch. If there are
// heartbeats only, it waits a little for more.
func (h *Hub) gather(ctx context.Context, first post) []post {
	posts, urgent := []post{first}, first.urgent()
	late := time.NewTimer(lull)
	defer late.Stop()
	for n := len(first.reports); n <= maxBatch-maxPost; {
		var p post
		select {
		case p = <-h.posts:
		default:
			if urgent {
				return posts
			}
			select {
			case p = <-h.posts:
			case <-late.C:
				return posts
			case <-ctx.Done():
				return posts
			}
		}
		posts, n, urgent = append(posts, p), n+len(p.reports), urgent || p.urgent()
	}
	return posts
}
