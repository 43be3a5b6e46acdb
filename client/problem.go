package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Problem is the control plane's refusal of a request (RFC 9457).
type Problem struct {
	Status int     `json:"status"`
	Title  string  `json:"title"`
	Detail string  `json:"detail"`
	Errors []Fault `json:"errors"`
}

// Fault is one thing that is wrong with a request.
type Fault struct {
	// Location is where, as in "body.endpoints[0]".
	Location string `json:"location"`
	Message  string `json:"message"`
}

// maxProblem is more than a control plane ever says.
const maxProblem = 64 << 10

// readProblem makes an error of an answer other than 2xx; one that says that the
// server cannot serve now is ErrUnreachable too.
func readProblem(resp *http.Response) error {
	p := &Problem{}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem)) // what came will do
	if json.Unmarshal(body, p) != nil || p.Title == "" {
		// Not one of ours: a proxy, or another server.
		p = &Problem{Title: http.StatusText(resp.StatusCode), Detail: strings.TrimSpace(string(body[:min(len(body), 200)]))}
	}
	p.Status = resp.StatusCode
	if p.Status >= http.StatusInternalServerError {
		return fmt.Errorf("%w: %w", ErrUnreachable, p)
	}
	return p
}

// Error is the title and the detail, then one line per fault that the detail
// does not already tell.
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
