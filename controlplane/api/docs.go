package api

import (
	_ "embed"
	"html/template"
	"net/http"
	"strings"

	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

const (
	rootPath    = "/{$}"
	docsPath    = "/docs"
	openAPIPath = "/openapi.json"
)

// docsPolicy prevents the page from loading anything from other servers.
const docsPolicy = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// tokenForm prompts for the token once per tab and adds it to each request.
//
//go:embed token.html
var tokenForm string

// registerDocs registers the OpenAPI document, the page that displays it, and the root. Their
// links are relative, so that they work behind a reverse proxy with a path of its own.
func registerDocs(mux *http.ServeMux, root Root, document []byte) {
	mux.HandleFunc("GET "+openAPIPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document)
	})
	page := v5emb.NewHandlerWithConfig(swgui.Config{
		Title: "tasker", SwaggerJSON: ".." + openAPIPath, // relative to the page as a directory
		BasePath: relative(docsPath), InternalBasePath: docsPath,
		PrependHTML: template.HTML(tokenForm), //nolint:gosec // embedded, not from a request
		SettingsUI: map[string]string{
			"defaultModelsExpandDepth": "1",
			"displayRequestDuration":   "true",
			"tryItOutEnabled":          "true",
			"requestInterceptor":       "sendToken",
			"responseInterceptor":      "promptForToken",
		},
	})
	servePage := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == docsPath+"/" { // its links would lead below it
			redirect(w, "../"+relative(docsPath))
			return
		}
		w.Header().Set("Content-Security-Policy", docsPolicy)
		page.ServeHTTP(w, r)
	}
	mux.HandleFunc("GET "+docsPath, servePage)
	mux.HandleFunc("GET "+docsPath+"/", servePage)
	mux.Handle("GET "+rootPath, root)
}

// relative returns a path of the API as a link in the answers at / and directly below it.
func relative(path string) string { return strings.TrimPrefix(path, "/") }

// redirect redirects to a relative URL. http.Redirect would make it absolute, without the
// path that a reverse proxy has removed.
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusFound)
}

// Root is the answer to a program at the root path. Its links are relative to the root.
type Root struct {
	Name      string            `json:"name"`
	Version   string            `json:"version"`
	TaskTypes []string          `json:"task_types"`
	Links     map[string]string `json:"links"`
}

func newRoot(version string, types []string) Root {
	return Root{Name: "tasker", Version: version, TaskTypes: types, Links: map[string]string{
		"docs": relative(docsPath), "openapi": relative(openAPIPath), "endpoints": "endpoints", "ready": "readyz", "metrics": "metrics",
	}}
}

// ServeHTTP redirects browsers to the documentation and sends the root to programs.
func (root Root) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if isBrowser(r) {
		redirect(w, relative(docsPath))
		return
	}
	writeJSON(w, http.StatusOK, "application/json", root)
}

// isBrowser reports whether a browser, not a program, sends the request.
func isBrowser(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}
