package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
)

const agentsPath = "/agent/"

// router authorizes requests and serves them from a mux.
type router struct {
	mux        *http.ServeMux
	authorizer *auth.Authorizer
	types      []string // the names of the task types
	hasAgents  bool     // whether agents connect by HTTP
}

// ServeHTTP finds the route of a request, authorizes its caller, and serves it.
func (rt router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r = escapeDotSegments(r)
	handler, pattern := rt.mux.Handler(r)
	doubleSlash := strings.Contains(r.URL.EscapedPath(), "//") // the mux would redirect
	if doubleSlash {
		pattern = ""
	}
	record := recordOf(r.Context())
	record.route, record.address = routeOf(pattern), rt.authorizer.ClientAddress(r)

	caller, err := rt.authorizer.Authorize(r, requiredRole(pattern, r))
	if err != nil {
		record.caller = caller.Name
		writeDenied(w, err)
		return
	}
	record.caller = caller.Name
	r = r.WithContext(auth.WithCaller(r.Context(), caller))

	switch {
	case doubleSlash:
		rt.writeNotFound(w, r)
	case pattern == "":
		rt.writeUnroutable(w, r, handler)
	default:
		rt.mux.ServeHTTP(w, r)
	}
}

// requiredRole returns the role that a route requires. A path without a route requires
// Admin too, so that callers without a token cannot find out which task types exist.
func requiredRole(pattern string, r *http.Request) auth.Role {
	switch routeOf(pattern) {
	case rootPath:
		if isBrowser(r) { // it is redirected to the page, which prompts for the token
			return auth.Anyone
		}
		return auth.Admin
	case "/healthz", "/readyz", docsPath, docsPath + "/", enrolPath: // enrolment has tokens of its own
		return auth.Anyone
	case agentsPath:
		return auth.Agent
	default:
		return auth.Admin
	}
}

// routeOf returns the path of a mux pattern.
func routeOf(pattern string) string {
	if _, path, found := strings.Cut(pattern, " "); found {
		return path
	}
	return pattern
}

// escapeDotSegments escapes the path segments "." and "..", which the mux would remove:
// an identifier may be either.
func escapeDotSegments(r *http.Request) *http.Request {
	segments := strings.Split(r.URL.EscapedPath(), "/")
	changed := false
	for i, s := range segments {
		if s == "." || s == ".." {
			segments[i] = strings.ReplaceAll(s, ".", "%2E")
			changed = true
		}
	}
	if !changed {
		return r
	}
	escaped := *r
	escaped.URL = new(url.URL)
	*escaped.URL = *r.URL
	escaped.URL.RawPath = strings.Join(segments, "/")
	return &escaped
}

// writeUnroutable answers a request that matches no pattern of the mux: its path exists
// with another method, or not at all. The mux's own handler knows which.
func (rt router) writeUnroutable(w http.ResponseWriter, r *http.Request, muxHandler http.Handler) {
	answer := headerRecorder{header: http.Header{}}
	muxHandler.ServeHTTP(&answer, r)
	if answer.status != http.StatusMethodNotAllowed {
		rt.writeNotFound(w, r)
		return
	}
	allow := answer.header.Get("Allow")
	w.Header().Set("Allow", allow)
	writeProblem(w, newProblem(http.StatusMethodNotAllowed,
		fmt.Sprintf("%s is not allowed here; allowed are %s", truncate(r.Method), allow)))
}

func (rt router) writeNotFound(w http.ResponseWriter, r *http.Request) {
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	detail := fmt.Sprintf("this path does not exist; %s lists all paths", docsPath)
	switch {
	case name == "agent" && !rt.hasAgents:
		detail = "agents connect to this control plane through its message queue, not by HTTP"
	case name != "" && !slices.Contains(rt.types, name) && !slices.Contains(tasker.ReservedPaths(), name):
		detail = fmt.Sprintf("there is no task type %s; task_types in the configuration of the control plane has: %s", quote(name), strings.Join(rt.types, ", "))
	case strings.Contains(rest, "/") || strings.Contains(r.URL.EscapedPath(), "%2F") || strings.Contains(r.URL.EscapedPath(), "%2f"):
		detail += "; an identifier contains no '/'"
	}
	writeProblem(w, newProblem(http.StatusNotFound, detail))
}

// writeDenied answers a request that the authorizer refuses.
func writeDenied(w http.ResponseWriter, err error) {
	denied := &auth.DeniedError{Status: http.StatusForbidden, Detail: err.Error()}
	errors.As(err, &denied)
	if denied.Challenge != "" {
		w.Header().Set("WWW-Authenticate", denied.Challenge)
	}
	if denied.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	if denied.RetryAfter > 0 {
		w.Header().Set("Retry-After", retrySeconds(denied.RetryAfter))
	}
	writeProblem(w, newProblem(denied.Status, denied.Detail))
}

// headerRecorder is a ResponseWriter that records the status and the headers only.
type headerRecorder struct {
	header http.Header
	status int
}

func (h *headerRecorder) Header() http.Header         { return h.header }
func (h *headerRecorder) Write(b []byte) (int, error) { return len(b), nil }
func (h *headerRecorder) WriteHeader(status int)      { h.status = status }
