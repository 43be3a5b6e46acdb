package httplink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

const (
	// storeTimeout is how long a POST of reports waits until it is stored. After that it
	// fails with 503, and the agent sends the reports again.
	storeTimeout = 20 * time.Second
	// bodyTimeout is how long an agent may take to send a POST.
	bodyTimeout = 30 * time.Second
)

// serveReports serves POST /agent/v1/reports.
func (h *Hub) serveReports(w http.ResponseWriter, r *http.Request) {
	name, refusal := h.identify(r)
	if refusal == nil {
		refusal = h.acceptReports(w, r, name)
	}
	if refusal == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if refusal.Status != http.StatusServiceUnavailable {
		h.opts.Log.Warn("reports refused", "endpoint", name, "status", refusal.Status, "error", refusal)
	}
	refusal.respond(w)
}

// acceptReports reads the reports and waits until they are stored.
func (h *Hub) acceptReports(w http.ResponseWriter, r *http.Request, name string) *problem {
	size := r.ContentLength
	switch {
	case size > maxBody:
		return tooLarge()
	case size < 0:
		size = maxBody
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	if h.inbox.memory.Acquire(ctx, size) != nil {
		return newProblem(http.StatusServiceUnavailable, "too many reports wait to be stored; send them again")
	}
	defer h.inbox.memory.Release(size)
	body, refusal := readBody(w, r)
	if refusal != nil {
		return refusal
	}
	reports, refusal := h.decode(body, name)
	if refusal != nil {
		return refusal
	}
	// The endpoint may have been revoked while the body was read.
	if refusal := h.authorize(r, name); refusal != nil {
		return refusal
	}
	for _, report := range reports {
		h.streams.update(report.Message)
	}
	for len(reports) > 0 {
		n := min(maxPost, len(reports))
		if err := h.inbox.store(r.Context(), reports[:n:n]); err != nil {
			return newProblem(http.StatusServiceUnavailable, "the reports cannot be stored now; send them again: %v", err)
		}
		reports = reports[n:]
	}
	return nil
}

// readBody reads the body, within its limits of size and time.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *problem) {
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
		return nil, newProblem(http.StatusInternalServerError, "this server cannot limit the time of a request: %v", err)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge()
	case err != nil:
		return nil, newProblem(http.StatusRequestTimeout, "read the reports: %v", err)
	}
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		return nil, newProblem(http.StatusInternalServerError, "end the time limit of a request: %v", err)
	}
	return body, nil
}

func tooLarge() *problem {
	return newProblem(http.StatusRequestEntityTooLarge, "a request may have at most %d bytes of reports", maxBody)
}

// decode returns the reports of a body. It drops reports of a newer version.
func (h *Hub) decode(body []byte, name string) ([]wire.Received[tasker.Report], *problem) {
	encoded, err := splitBody(body)
	if err != nil {
		return nil, newProblem(http.StatusBadRequest, "the body is neither a JSON array of reports nor one report per line: %v", err)
	}
	var reports []wire.Received[tasker.Report]
	for i, e := range encoded {
		r, err := wire.DecodeReport(e)
		switch {
		case errors.Is(err, wire.ErrVersion):
			h.opts.Metrics.countRefused()
			h.opts.Log.Error("report is of a newer version and is dropped; upgrade the control plane before the agents",
				"endpoint", name, "known", tasker.MaxWireVersion)
		case err != nil:
			return nil, newProblem(http.StatusBadRequest, "report %d: %v", i, err).forReport(i)
		case r.Endpoint != name:
			return nil, newProblem(http.StatusForbidden, "report %d is for endpoint %q, but the request is from %q", i, r.Endpoint, name).forReport(i)
		default:
			reports = append(reports, wire.Received[tasker.Report]{Message: r, Encoded: e})
		}
	}
	return reports, nil
}

// splitBody separates the reports of a body.
func splitBody(body []byte) ([]json.RawMessage, error) {
	var list []json.RawMessage
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		err := json.Unmarshal(body, &list)
		return list, err
	}
	values := json.NewDecoder(bytes.NewReader(body))
	for {
		var value json.RawMessage
		err := values.Decode(&value)
		switch {
		case errors.Is(err, io.EOF) && len(list) == 0:
			return nil, errors.New("it is empty")
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return nil, fmt.Errorf("value %d: %w", len(list), err)
		}
		list = append(list, value)
	}
}
