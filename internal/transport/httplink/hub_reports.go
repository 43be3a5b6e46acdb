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
	"github.com/MatthiasWiesner/tasker/internal/reportrules"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

const (
	// storeTimeout limits the wait of a POST for memory, and then its wait until it is
	// stored. After that it fails with 503, and the agent sends the reports again.
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
	switch refusal.Status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
	default:
		if refusal.cause == nil && refusal.Status == http.StatusForbidden {
			refusal.cause = wire.ErrSender
		}
		h.opts.Metrics.countRefused(refusal)
		h.refusals.Add(name, refusal, "status", refusal.Status)
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
	if !h.quota.Take(name, 1, int(size)) {
		return tooFast()
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	release, refusal := h.inbox.admit(ctx, name, size)
	if refusal != nil {
		return refusal
	}
	defer release()
	body, refusal := readBody(w, r)
	if refusal != nil {
		return refusal
	}
	reports, refusal := h.decode(body, name)
	if refusal != nil {
		h.quota.Take(name, wire.RefusedReport, 0)
		return refusal
	}
	if !h.quota.Take(name, len(reports), 0) {
		return tooFast()
	}
	// The endpoint may have been revoked while the body was read.
	if refusal := h.authorize(r, name); refusal != nil {
		return refusal
	}
	if refusal := h.checkHolder(r, name, reports); refusal != nil {
		return refusal
	}
	h.streams.answer(name, r.Header.Get(processHeader))
	for _, report := range reports {
		h.streams.update(report.Message)
	}
	storing, cancelStoring := context.WithTimeout(r.Context(), storeTimeout)
	defer cancelStoring()
	for len(reports) > 0 {
		n := min(maxPost, len(reports))
		if err := h.inbox.store(storing, reports[:n:n]); err != nil {
			return newProblem(http.StatusServiceUnavailable, "the reports cannot be stored now; send them again: %v", err)
		}
		reports = reports[n:]
	}
	return nil
}

// checkHolder returns a problem for reports of another instance than the live one, unless
// the caller has a credential of its own.
func (h *Hub) checkHolder(r *http.Request, name string, reports []wire.Received[tasker.Report]) *problem {
	if h.opts.HasOwnCredential != nil && h.opts.HasOwnCredential(r) {
		return nil
	}
	for _, report := range reports {
		if refusal := h.streams.checkHolder(name, report.Message.Instance); refusal != nil {
			return refusal
		}
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

func tooFast() *problem {
	return newProblem(http.StatusTooManyRequests, "the endpoint has sent more than %d reports or %d bytes a second for a time; send them again", wire.ReportsPerSecond, wire.BytesPerSecond)
}

func tooLarge() *problem {
	return newProblem(http.StatusRequestEntityTooLarge, "a request may have at most %d bytes of reports", maxBody).because(reportrules.ErrRefused)
}

// decode returns the reports of a body. It drops reports of a newer version.
func (h *Hub) decode(body []byte, name string) ([]wire.Received[tasker.Report], *problem) {
	encoded, err := splitBody(body)
	if err != nil {
		return nil, newProblem(http.StatusBadRequest, "the body is neither a JSON array of reports nor one report per line: %v", err).because(wire.ErrUndecodable)
	}
	var reports []wire.Received[tasker.Report]
	for i, e := range encoded {
		r, err := wire.DecodeReport(e, name)
		if err == nil {
			reports = append(reports, wire.Received[tasker.Report]{Message: r, Encoded: e})
			continue
		}
		switch {
		case errors.Is(err, wire.ErrVersion):
			h.opts.Metrics.countRefused(err)
			h.refusals.Add(name, fmt.Errorf("upgrade the control plane before the agents: %w", err))
		case errors.Is(err, wire.ErrSender):
			return nil, newProblem(http.StatusForbidden, "report %d: %v", i, err).forReport(i).because(err)
		case errors.Is(err, reportrules.ErrRefused):
			return nil, newProblem(http.StatusUnprocessableEntity, "report %d: %v", i, err).forReport(i).because(err)
		default:
			return nil, newProblem(http.StatusBadRequest, "report %d: %v", i, err).forReport(i).because(err)
		}
	}
	return reports, nil
}

// splitBody separates the reports of a body. It stops at the limit of reports, because
// their list can have many times the size of the body.
func splitBody(body []byte) ([]json.RawMessage, error) {
	var list []json.RawMessage
	values := json.NewDecoder(bytes.NewReader(body))
	isArray := bytes.HasPrefix(bytes.TrimSpace(body), []byte("["))
	if isArray {
		if _, err := values.Token(); err != nil {
			return nil, err
		}
	}
	for !isArray || values.More() {
		var value json.RawMessage
		err := values.Decode(&value)
		switch {
		case errors.Is(err, io.EOF) && !isArray && len(list) > 0:
			return list, nil
		case errors.Is(err, io.EOF) && !isArray:
			return nil, errors.New("it is empty")
		case err != nil:
			return nil, fmt.Errorf("value %d: %w", len(list), err)
		case len(list) == maxReports:
			return nil, fmt.Errorf("it has more than %d reports", maxReports)
		}
		list = append(list, value)
	}
	if _, err := values.Token(); err != nil {
		return nil, err // the array does not end
	}
	if _, err := values.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more follows after the array")
	}
	return list, nil
}
