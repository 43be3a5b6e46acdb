package api

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// retryAfter is the Retry-After header, in seconds, while the database or the message
// queue is unavailable.
const retryAfter = "5"

// retrySeconds returns a wait as a Retry-After header, rounded up.
func retrySeconds(wait time.Duration) string {
	return strconv.Itoa(int((wait + time.Second - 1) / time.Second))
}

// newProblem returns an RFC 9457 problem.
func newProblem(status int, detail string, errs ...*huma.ErrorDetail) *huma.ErrorModel {
	return &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail, Errors: errs}
}

// newFieldProblem returns a problem with one invalid field.
func newFieldProblem(status int, detail, location, message string) *huma.ErrorModel {
	return newProblem(status, detail, &huma.ErrorDetail{Location: location, Message: message})
}

func internalError() *huma.ErrorModel {
	return newProblem(http.StatusInternalServerError, "internal error; see the log of the control plane")
}

// unavailable returns a problem of status 503 with a Retry-After header.
func unavailable(detail string) error {
	return huma.ErrorWithHeaders(newProblem(http.StatusServiceUnavailable, detail), http.Header{"Retry-After": {retryAfter}})
}

func writeProblem(w http.ResponseWriter, p *huma.ErrorModel) {
	writeJSON(w, p.Status, "application/problem+json", p)
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // fails only if the client has left: v can be encoded
}

// truncate shortens a text that the caller has sent for a message.
func truncate(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}

func quote(s string) string { return strconv.Quote(truncate(s)) }
