package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Problem is the error of a request that the control plane has refused (RFC 9457).
type Problem struct {
	// Status is the HTTP status code.
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	// Errors lists every invalid part of the request.
	Errors []FieldError `json:"errors"`
}

// FieldError is one invalid part of a request.
type FieldError struct {
	// Location is the path of the invalid value, such as "body.endpoints[0]".
	Location string `json:"location"`
	Message  string `json:"message"`
}

// maxProblem is the highest number of bytes read of an error response. The control plane
// sends less.
const maxProblem = 64 << 10

// readProblem returns the error of a response whose status is not 2xx. The error of a
// 5xx response also matches ErrUnreachable.
func readProblem(resp *http.Response) error {
	p := &Problem{}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem)) // the status matters more than a whole body
	if json.Unmarshal(body, p) != nil || p.Title == "" {
		// The response is from a proxy or another server.
		p = &Problem{Title: http.StatusText(resp.StatusCode), Detail: strings.TrimSpace(string(body[:min(len(body), 200)]))}
	}
	p.Status = resp.StatusCode
	if p.Status >= http.StatusInternalServerError {
		return fmt.Errorf("%w: %w", ErrUnreachable, p)
	}
	return p
}

// Error returns the status, the title and the detail, and then one line for each field
// error that the detail does not contain.
func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", p.Status, p.Title)
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	for _, f := range p.Errors {
		if line := strings.TrimSpace(f.Location + " " + f.Message); line != p.Detail {
			b.WriteString("\n  " + line)
		}
	}
	return b.String()
}
