package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// After a temporary failure, the next attempt continues the download where possible.
func TestGetRetries(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	half := fmt.Sprintf("bytes=%d-", size/2)
	status := func(code int, header ...string) func(*mirror, int, http.ResponseWriter, *http.Request) bool {
		return func(_ *mirror, n int, w http.ResponseWriter, _ *http.Request) bool {
			if n > 1 {
				return false
			}
			for _, h := range header {
				name, value, _ := strings.Cut(h, ": ")
				w.Header().Set(name, value)
			}
			w.WriteHeader(code)
			return true
		}
	}
	tests := []struct {
		name  string
		serve func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool
		want  string // the requested ranges
	}{
		{"no failure", func(*mirror, int, http.ResponseWriter, *http.Request) bool { return false }, "all"},
		{"aborts in the middle", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			return n == 1 && m.sendHalf(w, r)
		}, "all " + half},
		{"no ranges", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				m.sendHalf(w, r)
			}
			_, _ = w.Write(m.content)
			return true
		}, "all " + half},
		{"changes to another file", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				m.sendHalf(w, r)
			}
			m.etag, m.content = `"two"`, content(2)
			return false
		}, "all " + half},
		{"no validator", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			m.etag = ""
			return n == 1 && m.sendHalf(w, r)
		}, "all all"},
		{"a weak etag", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			m.etag = `W/"one"`
			return n == 1 && m.sendHalf(w, r)
		}, "all all"},
		{"last modified", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			m.etag = ""
			w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
			if n == 1 {
				m.sendHalf(w, r)
			}
			http.ServeContent(w, r, "", time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC), bytes.NewReader(m.content))
			return true
		}, "all " + half},
		{"another part", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			switch n {
			case 1:
				m.sendHalf(w, r)
			case 2:
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 7-%d/%d", size-1, size))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(m.content[7:])
				return true
			}
			return false
		}, "all " + half + " all"},
		{"a part of another file under the same etag", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				m.content = content(3)
				m.sendHalf(w, r)
			}
			m.content = content(2)
			return false
		}, "all " + half + " all"},
		{"cannot satisfy", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			switch n {
			case 1:
				m.sendHalf(w, r)
			case 2:
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return true
			}
			return false
		}, "all " + half + " all"},
		{"503", status(503), "all all"},
		{"500", status(500), "all all"},
		{"429", status(429, "Retry-After: 0"), "all all"},
		{"aborts without a response", func(_ *mirror, n int, _ http.ResponseWriter, _ *http.Request) bool {
			if n == 1 {
				panic(http.ErrAbortHandler)
			}
			return false
		}, "all all"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var m *mirror
			m = newMirror(t, func(n int, w http.ResponseWriter, r *http.Request) bool { return tt.serve(m, n, w, r) })
			want := m.content
			if strings.Contains(tt.name, "another file") {
				want = content(2)
			}
			d := newDownload(t, m.URL+"/app.zip", want)
			d.wantContent(t, want)
			if got := m.ranges(); got != tt.want {
				t.Errorf("requested %s, want %s", got, tt.want)
			}
			if got := m.requests[0].Header.Get("Authorization"); got != token {
				t.Errorf("authorization %q", got)
			}
		})
	}
}

// The download continues after a mirror has stopped sending.
func TestGetAfterIdleTimeout(t *testing.T) {
	t.Parallel()
	var m *mirror
	m = newMirror(t, func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") != "" {
			return false
		}
		w.Header().Set("ETag", m.etag)
		w.Header().Set("Content-Length", fmt.Sprint(len(m.content)))
		_, _ = w.Write(m.content[:1000])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	})
	d := newDownload(t, m.URL, m.content)
	d.IdleTimeout = 300 * time.Millisecond
	d.wantContent(t, m.content)
	// On a slow machine there can be more attempts.
	if !strings.Contains(d.log.String(), "nothing arrived for 300ms") || !strings.Contains(m.ranges(), "all bytes=1000-") {
		t.Errorf("requested %s; logged:\n%s", m.ranges(), d.log)
	}
}

// A process continues the download of an earlier process.
func TestGetInAnotherProcess(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	var m *mirror
	m = newMirror(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n == 1 {
			w.Header().Set("ETag", m.etag)
			w.Header().Set("Content-Length", fmt.Sprint(len(m.content)))
			_, _ = w.Write(m.content[:1000])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
		return n == 1
	})
	d := newDownload(t, m.URL+"/app.zip?signature=hunter2", m.content)
	d.Progress = func(have, _ int64) {
		if have == 1000 {
			cancel(handlers.ErrCancelled)
		}
	}
	if _, err := d.get(ctx); !errors.Is(err, handlers.ErrCancelled) || strings.Contains(err.Error(), "hunter2") {
		t.Fatalf("got %v", err)
	}
	d.wantContent(t, m.content)
	d.wantContent(t, m.content)
	if got := m.ranges(); got != "all bytes=1000-" {
		t.Errorf("requested %s", got)
	}
}

func TestGetFails(t *testing.T) {
	t.Parallel()
	fixed := func(code int) func(int, http.ResponseWriter, *http.Request) bool {
		return func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(code)
			return true
		}
	}
	tests := []struct {
		name  string
		serve func(int, http.ResponseWriter, *http.Request) bool
		edit  func(d *download)
		want  string
	}{
		{"not found", fixed(404), nil, "responded with 404 Not Found; correct the task's url"},
		{"unauthorized", fixed(401), nil, "responded with 401 Unauthorized: the server requires other credentials"},
		{"forbidden", fixed(403), nil, "token_file"},
		{"teapot", fixed(418), nil, "responded with 418"},
		{"stays down", fixed(503), func(d *download) { d.GiveUpAfter = 50 * time.Millisecond }, "gave up on http://"},
		{"another sum", nil, func(d *download) { d.SHA256 = strings.Repeat("0", 64) }, "not " + strings.Repeat("0", 64) + " as in the task; correct the task"},
		{"too large", nil, func(d *download) { d.MaxSize = 1<<20 - 1 }, "has 1048576 bytes or more, and max_size is 1048575"},
		{"too large without a length", func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(content(1))
			return true
		}, func(d *download) { d.MaxSize = 1000 }, "and max_size is 1000"},
		{"no space", nil, func(d *download) { d.CheckSpace = func(n int64) error { return fmt.Errorf("no space for %d", n) } }, "no space for 1048576"},
		{"no such file", nil, func(d *download) { d.URL = &url.URL{Scheme: "file", Path: "/no/such"} }, "no such file or directory on this server; correct the task's url"},
		{"not a regular file", nil, func(d *download) { d.URL = &url.URL{Scheme: "file", Path: "/dev/zero"} }, "/dev/zero is not a regular file"},
		{"unknown host", nil, func(d *download) {
			d.URL.Host = "tasker-no-such-host.invalid"
			d.GiveUpAfter = 2 * time.Second // in case no name server responds
		}, "tasker-no-such-host.invalid"},
		{"not https", nil, func(d *download) { d.URL.Scheme = "https" }, "that port does not use https"},
		{"redirect to a file", func(_ int, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
			return true
		}, nil, "refused a redirect to file:///etc/passwd"},
		{"redirects in a circle", func(_ int, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/again?key=hunter2", http.StatusFound)
			return true
		}, nil, "refused a redirect: there were 10 already"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, tt.serve)
			d := newDownload(t, m.URL+"/app.zip?key=hunter2", m.content)
			if tt.edit != nil {
				tt.edit(d)
			}
			d.wantError(t, tt.want)
		})
	}
}

func TestGetFromDisk(t *testing.T) {
	t.Parallel()
	want := content(1)
	path := filepath.Join(t.TempDir(), "app zip")
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	u := url.URL{Scheme: "file", Path: path}
	newDownload(t, u.String(), want).wantContent(t, want)
	if err := syscall.Mkfifo(path+".pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	newDownload(t, u.String()+".pipe", want).wantError(t, "is not a regular file")
}

func TestWrongSumNamesTheContentEncoding(t *testing.T) {
	t.Parallel()
	m := newMirror(t, func(n int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Encoding", "gzip")
		return false
	})
	newDownload(t, m.URL, content(2)).wantError(t, "the server sent it with Content-Encoding: gzip, which tasker does not undo")
	// The same holds for a resumed download.
	resumed := newMirror(t, nil)
	resumed.serve = func(n int, w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Encoding", "gzip")
		return n == 1 && resumed.sendHalf(w, r)
	}
	d := newDownload(t, resumed.URL, content(2))
	d.wantError(t, "Content-Encoding: gzip")
	if !strings.Contains(resumed.ranges(), "bytes=") {
		t.Errorf("the download was not resumed: %s", resumed.ranges())
	}
}
