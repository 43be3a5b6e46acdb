package api_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

func TestDocsPageIsSelfContained(t *testing.T) {
	t.Parallel()
	s := serve(t)
	page := s.do(t, http.MethodGet, "/docs", "")
	if page.status != http.StatusOK || !strings.Contains(page.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Fatalf("got %d, %v", page.status, page.header)
	}
	loaded := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllSubmatch(page.body, -1)
	if len(loaded) < 3 {
		t.Errorf("the page loads %d files", len(loaded))
	}
	for _, m := range loaded {
		if path := string(m[1]); !strings.HasPrefix(path, "docs/") { // relative to /docs
			t.Errorf("the page loads %s", path)
		} else if a := s.do(t, http.MethodGet, "/"+path, ""); a.status != http.StatusOK || len(a.body) == 0 {
			t.Errorf("GET %s: %d", path, a.status)
		}
	}
	if a := s.do(t, http.MethodGet, "/", "", "Accept", "text/html"); a.status != http.StatusFound || a.header.Get("Location") != "docs" {
		t.Errorf("a browser at the root: %d %s", a.status, a.header.Get("Location"))
	}
	if a := s.do(t, http.MethodGet, "/docs/", ""); a.status != http.StatusFound || a.header.Get("Location") != "../docs" {
		t.Errorf("the page with a slash: %d %s", a.status, a.header.Get("Location"))
	}
	if root := decode[api.Root](t, s.do(t, http.MethodGet, "/", ""), http.StatusOK); !slices.Equal(root.TaskTypes, []string{"ping", "command"}) {
		t.Errorf("the root: %+v", root)
	}
}
