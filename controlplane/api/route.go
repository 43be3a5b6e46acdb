package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
)

const agentsPath = "/agent/"

// route finds the route of a request, asks the guard, and serves it.
func (a *API) route(w http.ResponseWriter, r *http.Request) {
	r = keepDots(r)
	found, pattern := a.mux.Handler(r)
	merged := strings.Contains(r.URL.EscapedPath(), "//") // the mux would go on as if it were one
	if merged {
		pattern = ""
	}
	seen(r.Context()).route = routeOf(pattern)

	who, err := a.authorizer.Authorize(r, need(pattern, r))
	if err != nil {
		deny(w, err)
		return
	}
	seen(r.Context()).by = who.Name
	r = r.WithContext(auth.WithCaller(r.Context(), who))

	switch {
	case merged:
		a.notFound(w, r)
	case pattern == "":
		a.noRoute(w, r, found)
	default:
		a.mux.ServeHTTP(w, r)
	}
}

// need is the role that a request on a route takes. What matches no route takes
// Admin as well, so that strangers cannot find out which task types there are.
func need(pattern string, r *http.Request) auth.Role {
	switch routeOf(pattern) {
	case rootPath:
		if isBrowser(r) { // it is led to the page, which asks for the token
			return auth.Anyone
		}
		return auth.Admin
	case "/healthz", "/readyz", docsPath, docsPath + "/", enrolPath: // enrolling asks for a token of its own
		return auth.Anyone
	case agentsPath:
		return auth.Agent
	default:
		return auth.Admin
	}
}

// routeOf is the path of a mux's pattern.
func routeOf(pattern string) string {
	if _, path, found := strings.Cut(pattern, " "); found {
		return path
	}
	return pattern
}

// keepDots escapes the path segments "." and "..", which the mux would clean
// away: an identifier may be either.
func keepDots(r *http.Request) *http.Request {
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
	kept := *r
	kept.URL = new(url.URL)
	*kept.URL = *r.URL
	kept.URL.RawPath = strings.Join(segments, "/")
	return &kept
}

// noRoute answers what the mux has no pattern for: another method, or nothing.
func (a *API) noRoute(w http.ResponseWriter, r *http.Request, found http.Handler) {
	answer := discard{header: http.Header{}}
	found.ServeHTTP(&answer, r)
	if answer.status != http.StatusMethodNotAllowed {
		a.notFound(w, r)
		return
	}
	allow := answer.header.Get("Allow")
	w.Header().Set("Allow", allow)
	writeProblem(w, problem(http.StatusMethodNotAllowed,
		fmt.Sprintf("%s is not possible here; possible are %s", cut(r.Method), allow)))
}

func (a *API) notFound(w http.ResponseWriter, r *http.Request) {
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	detail := fmt.Sprintf("there is nothing under this path; %s shows what there is", docsPath)
	switch {
	case name == "agent" && !a.agents:
		detail = "agents do not connect to this control plane by HTTP, but through its message queue"
	case name != "" && !a.hasType(name) && !slices.Contains(tasker.ReservedPaths(), name):
		detail = fmt.Sprintf("there is no task type %s; task_types in the configuration of the control plane has: %s", strconv.Quote(cut(name)), strings.Join(a.typeNames(), ", "))
	case strings.Contains(rest, "/") || strings.Contains(r.URL.EscapedPath(), "%2F") || strings.Contains(r.URL.EscapedPath(), "%2f"):
		detail += "; an identifier contains no '/'"
	}
	writeProblem(w, problem(http.StatusNotFound, detail))
}

// discard keeps the status and the headers of an answer.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// cut shortens what a caller sent, for a message.
func cut(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
