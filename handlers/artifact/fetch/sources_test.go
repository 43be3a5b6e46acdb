package fetch_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/artifact/fetch"
)

func newSources(t *testing.T, urls ...string) fetch.Sources {
	t.Helper()
	s, err := fetch.NewSources(urls)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSourcesAllowOnlyWhatTheyName(t *testing.T) {
	t.Parallel()
	for allowed, urls := range map[string]struct{ yes, no []string }{
		"https://mirror.example.net": {
			[]string{"https://mirror.example.net/a.zip", "https://MIRROR.example.net:443/a.zip?key=1"},
			[]string{"http://mirror.example.net/a.zip", "https://mirror.example.net:8443/a.zip", "https://mirror.example.net.evil/a.zip", "https://evil/mirror.example.net", "file:///a.zip"},
		},
		"https://mirror:8443/team/": {
			[]string{"https://mirror:8443/team/a.zip", "https://mirror:8443/team"},
			[]string{
				"https://mirror/team/a.zip", "https://mirror:8443/teams/a.zip", "https://mirror:8443/other/a.zip",
				"https://mirror:8443/team/../other/a.zip", "https://mirror:8443/team/%2e%2e/a.zip", "https://mirror:8443/team/..%2fother/a.zip", "https://mirror:8443/team/..%5cother/a.zip", "https://mirror:8443/team/x%2fother/a.zip",
			},
		},
		"https://*.example.net":    {[]string{"https://a.example.net/x"}, []string{"https://example.net/x", "https://a.example.net:8443/x", "https://aexample.net/x"}},
		"https://*":                {[]string{"https://any/x", "https://any:8443/x", "https://[::1]:8443/x"}, []string{"http://any/x"}},
		"file:///var/cache/mirror": {[]string{"file:///var/cache/mirror/a.zip", "file:///var/cache/mirror/b/a.zip"}, []string{"file:///var/cache/mirror2/a.zip", "file:///etc/shadow", "file:///var/cache/mirror/../x"}},
		"file:///":                 {[]string{"file:///etc/a.zip"}, []string{"https://host/"}},
	} {
		s := newSources(t, allowed)
		check := func(text string, want bool) {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			var reject *handlers.RejectError
			if err := s.Check(u); (err == nil) != want || err != nil && (!errors.As(err, &reject) || !strings.Contains(err.Error(), "to handlers.artifact.sources in the agent's configuration")) {
				t.Errorf("%s with %s: %v, want allowed: %t", text, allowed, err, want)
			}
		}
		for _, text := range urls.yes {
			check(text, true)
		}
		for _, text := range urls.no {
			check(text, false)
		}
	}
	if u, err := url.Parse("https://mirror/"); err != nil || (fetch.Sources{}).Check(u) == nil {
		t.Errorf("without sources, the URL is allowed (%v)", err)
	}
}

func TestSourcesRefuseMalformedURLs(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "mirror", "ftp://mirror", "https://", "https://u:p@mirror", "https://mirror/?q", "https://mirror/a/../b", "file://host/a", "file:///a/", "file:a", "https://[a"} {
		if _, err := fetch.NewSources([]string{"https://mirror", text}); err == nil || !strings.HasPrefix(err.Error(), "handlers.artifact.sources[1]: ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSourcesNameOnlyHostsWithoutWildcard(t *testing.T) {
	t.Parallel()
	s := newSources(t, "https://mirror/team", "https://*")
	for text, want := range map[string]bool{"https://mirror/team/a": true, "https://mirror/a": false, "https://evil/a": false} {
		if u, err := url.Parse(text); err != nil || s.Names(u) != want {
			t.Errorf("%s: want %t (%v)", text, want, err)
		}
	}
}

func TestGetAndSizeUseAllowedSourcesOnly(t *testing.T) {
	t.Parallel()
	m := newMirror(t, nil)
	origin := httptest.NewServer(http.RedirectHandler(m.URL+"/?key=hunter2", http.StatusFound))
	t.Cleanup(origin.Close)
	for from, want := range map[string]string{
		origin.URL: origin.URL + ` redirects to another place: the agent may not fetch ` + m.URL + `/?…: add "` + m.URL + `" to handlers.artifact.sources`,
		m.URL:      `the agent may not fetch ` + m.URL,
	} {
		d := newDownload(t, from, m.content)
		d.Sources = newSources(t, origin.URL)
		d.wantError(t, want)
		if _, err := d.Size(t.Context(), d.URL, token); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("size: %v, want %q", err, want)
		}
	}
	if len(m.requests) > 0 {
		t.Errorf("the mirror, which is not allowed, received %d requests", len(m.requests))
	}
	d := newDownload(t, origin.URL, m.content)
	d.Sources = newSources(t, origin.URL, m.URL)
	d.wantContent(t, m.content)
}

// Neither the size nor the sum of a file outside of the allowed directories is shown.
func TestGetFromDiskFollowsNoLinkOutOfTheDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := content(1)
	for path, err := range map[string]error{
		"secret":          os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600),
		"mirror":          os.Mkdir(filepath.Join(dir, "mirror"), 0o755),
		"mirror/app":      os.WriteFile(filepath.Join(dir, "mirror", "app"), want, 0o600),
		"mirror/latest":   os.Symlink("app", filepath.Join(dir, "mirror", "latest")),
		"mirror/link":     os.Symlink("../secret", filepath.Join(dir, "mirror", "link")),
		"mirror/absolute": os.Symlink(filepath.Join(dir, "secret"), filepath.Join(dir, "mirror", "absolute")),
	} {
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	get := func(path string) *download {
		d := newDownload(t, "file://"+dir+path, want)
		d.Sources = newSources(t, "file://"+dir+"/mirror")
		return d
	}
	get("/mirror/app").wantContent(t, want)
	get("/mirror/latest").wantContent(t, want)
	for path, want := range map[string]string{"/secret": "the agent may not fetch", "/mirror/link": "path escapes from parent", "/mirror/absolute": "path escapes from parent"} {
		d := get(path)
		d.wantError(t, want)
		if size, err := d.Size(t.Context(), d.URL, ""); err == nil || size != -1 {
			t.Errorf("size of %s: %d, %v", path, size, err)
		}
	}
}
