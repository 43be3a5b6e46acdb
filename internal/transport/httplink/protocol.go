package httplink

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// The paths of the two requests, the headers that identify the agent, and the header that
// contains the keepalive interval of the hub, in seconds.
const (
	ordersPath  = "/agent/v1/orders"
	reportsPath = "/agent/v1/reports"

	endpointHeader  = "Tasker-Endpoint"
	instanceHeader  = "Tasker-Instance"
	processHeader   = "Tasker-Process"
	keepaliveHeader = "Tasker-Keepalive"

	streamType = "application/x-ndjson"
)

const (
	// maxBody is the largest body of a POST of reports, in bytes: several times the
	// largest report.
	maxBody = 8 << 20
	// targetBody is the size at which a link begins the next POST, in bytes. Reverse
	// proxies commonly refuse larger bodies.
	targetBody = 1 << 20
	// maxBatch is the largest number of messages in one batch, maxPost the largest
	// number of reports that one POST adds to a batch.
	maxBatch = 200
	maxPost  = maxBatch / 2
	// maxBatchBytes is the size of reports at which a batch ends.
	maxBatchBytes = 4 << 20
	// maxReports is the largest number of reports of a POST.
	maxReports = 2000
)

// problem is the body of an error response (RFC 9457).
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Report is the index of the report that caused the error; nil if no single report
	// did.
	Report *int `json:"report,omitempty"`
	// cause is the error that the problem describes; it may be nil.
	cause error
	// foreign means that something between agent and control plane sent the response, such
	// as a reverse proxy. It says nothing about the reports or the credential.
	foreign bool
}

// problemType is the content type of the control plane's error responses.
const problemType = "application/problem+json"

func newProblem(status int, format string, args ...any) *problem {
	return &problem{Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}
}

// Error returns the detail.
func (p *problem) Error() string { return p.Detail }

// Unwrap returns the error that the problem describes.
func (p *problem) Unwrap() error { return p.cause }

// because sets the error that the problem describes.
func (p *problem) because(err error) *problem {
	p.cause = err
	return p
}

// forReport sets the index of the report that caused the error.
func (p *problem) forReport(index int) *problem {
	p.Report = &index
	return p
}

// rejectsReports reports whether the control plane rejects the content of a POST.
func (p *problem) rejectsReports() bool {
	if p.foreign {
		return false
	}
	switch p.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	case http.StatusForbidden:
		return p.Report != nil
	}
	return false
}

// rejectsCredential reports whether the control plane does not accept the agent's credential.
func (p *problem) rejectsCredential() bool {
	return !p.foreign && (p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden && p.Report == nil)
}

func (p *problem) respond(w http.ResponseWriter) {
	w.Header().Set("Content-Type", problemType)
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the connection may be closed
}
