package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// What passes is tried again; where it can be gone on, it is.
func TestGoesOn(t *testing.T) {
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
		want  string // the ranges that were asked for
	}{
		{"good", func(*mirror, int, http.ResponseWriter, *http.Request) bool { return false }, "all"},
		{"dies in the middle", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			return n == 1 && m.half(w, r)
		}, "all " + half},
		{"no ranges", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				m.half(w, r)
			}
			_, _ = w.Write(m.content)
			return true
		}, "all " + half},
		{"another file meanwhile", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				m.half(w, r)
			}
			m.etag, m.content = `"two"`, content(2)
			return false
		}, "all " + half},
		{"nothing to know it by", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			m.etag = ""
			return n == 1 && m.half(w, r)
		}, "all all"},
		{"a weak etag", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			m.etag = `W/"one"`
			return n == 1 && m.half(w, r)
		}, "all all"},
		{"known by its time", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			m.etag = ""
			w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
			if n == 1 {
				m.half(w, r)
			}
			http.ServeContent(w, r, "", time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC), bytes.NewReader(m.content))
			return true
		}, "all " + half},
		{"another part", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			switch n {
			case 1:
				m.half(w, r)
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
				m.half(w, r)
			}
			m.content = content(2)
			return false
		}, "all " + half + " all"},
		{"cannot satisfy", func(m *mirror, n int, w http.ResponseWriter, r *http.Request) bool {
			switch n {
			case 1:
				m.half(w, r)
			case 2:
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return true
			}
			return false
		}, "all " + half + " all"},
		{"503", status(503), "all all"},
		{"500", status(500), "all all"},
		{"429", status(429, "Retry-After: 0"), "all all"},
		{"connection refused an answer", func(_ *mirror, n int, _ http.ResponseWriter, _ *http.Request) bool {
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
			d.succeeds(t, want)
			if got := m.ranges(); got != tt.want {
				t.Errorf("asked for %s, want %s", got, tt.want)
			}
			if got := m.requests[0].Header.Get("Authorization"); got != token {
				t.Errorf("authorization %q", got)
			}
		})
	}
}

// A mirror that sends nothing more is left, and gone on with.
func TestStalls(t *testing.T) {
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
	d.Idle = 300 * time.Millisecond
	d.succeeds(t, m.content)
	// On a slow machine there may be more tries, as nothing comes for longer.
	if !strings.Contains(d.log.String(), "nothing came for 300ms") || !strings.Contains(m.ranges(), "all bytes=1000-") {
		t.Errorf("asked for %s; said:\n%s", m.ranges(), d.log)
	}
}

// Another process goes on with what an earlier one has left.
func TestGoesOnInAnotherProcess(t *testing.T) {
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
	d.succeeds(t, m.content)
	d.succeeds(t, m.content)
	if got := m.ranges(); got != "all bytes=1000-" {
		t.Errorf("asked for %s", got)
	}
}

func TestFails(t *testing.T) {
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
		{"not found", fixed(404), nil, "answered 404 Not Found; correct the task's url"},
		{"unauthorized", fixed(401), nil, "answered 401 Unauthorized: it wants other credentials"},
		{"forbidden", fixed(403), nil, "token_file"},
		{"teapot", fixed(418), nil, "answered 418"},
		{"down for good", fixed(503), func(d *download) { d.Patience = 50 * time.Millisecond }, "gave up on http://"},
		{"another sum", nil, func(d *download) { d.SHA256 = strings.Repeat("0", 64) }, "not " + strings.Repeat("0", 64) + " as the task says; correct the task"},
		{"too large", nil, func(d *download) { d.Max = 1<<20 - 1 }, "has 1048576 bytes or more, and max_size is 1048575"},
		{"too large without saying so", func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(content(1))
			return true
		}, func(d *download) { d.Max = 1000 }, "and max_size is 1000"},
		{"no room", nil, func(d *download) { d.Room = func(n int64) error { return fmt.Errorf("no room for %d", n) } }, "no room for 1048576"},
		{"not there", nil, func(d *download) { d.URL = &url.URL{Scheme: "file", Path: "/no/such"} }, "no such file or directory on this server; correct the task's url"},
		{"no file", nil, func(d *download) { d.URL = &url.URL{Scheme: "file", Path: "/dev/zero"} }, "/dev/zero is no file"},
		{"unknown host", nil, func(d *download) {
			d.URL.Host = "tasker-no-such-host.invalid"
			d.Patience = 2 * time.Second // where no name server answers
		}, "tasker-no-such-host.invalid"},
		{"no https", nil, func(d *download) { d.URL.Scheme = "https" }, "that port does not speak https"},
		{"redirect to a file", func(_ int, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
			return true
		}, nil, "refused a redirect to file:///etc/passwd"},
		{"redirects in a circle", func(_ int, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/again?key=hunter2", http.StatusFound)
			return true
		}, nil, "refused a redirect: 10 of them"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, tt.serve)
			d := newDownload(t, m.URL+"/app.zip?key=hunter2", m.content)
			if tt.edit != nil {
				tt.edit(d)
			}
			d.fails(t, tt.want)
		})
	}
}

func TestDeadMirror(t *testing.T) {
	t.Parallel()
	// The port is taken, and nobody listens there.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port) //nolint:errcheck,forcetypeassert // as it was bound
	// Time passes between the tries only.
	synctest.Test(t, func(t *testing.T) {
		d := newDownload(t, "http://"+address+"/app.zip", nil)
		d.Patience = 50 * time.Millisecond
		d.fails(t, "connection refused; see whether the server is up")
		if !strings.Contains(d.log.String(), "trying again in ") {
			t.Errorf("said %q", d.log)
		}
		// Time that is short is not used up.
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		d.Patience = time.Hour
		if _, err := d.get(ctx); err == nil || !strings.Contains(err.Error(), "gave up on http://") || ctx.Err() != nil {
			t.Errorf("with little time: %v, %v", err, ctx.Err())
		}
	})
}

// A redirect leads from https to no http, and takes the token nowhere else.
func TestRedirects(t *testing.T) {
	t.Parallel()
	target, secure := newMirror(t, nil), &mirror{t: t, content: content(1)}
	secure.Server = httptest.NewTLSServer(secure)
	t.Cleanup(secure.Close)
	redirect := func(to *mirror) http.Handler {
		return http.RedirectHandler(to.URL+"/?key=hunter2", http.StatusFound)
	}
	for _, tt := range []struct {
		name string
		from func(http.Handler) *httptest.Server
		to   *mirror
		want string
	}{
		{"http to http", httptest.NewServer, target, ""},
		{"http to https", httptest.NewServer, secure, ""},
		{"https to https", httptest.NewTLSServer, secure, ""},
		{"https to http", httptest.NewTLSServer, target, "refused a redirect from https to http://"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			first := tt.from(redirect(tt.to))
			t.Cleanup(first.Close)
			d := newDownload(t, first.URL, tt.to.content)
			if tt.want != "" {
				d.fails(t, tt.want)
				return
			}
			d.succeeds(t, tt.to.content)
			tt.to.mu.Lock()
			defer tt.to.mu.Unlock()
			for _, r := range tt.to.requests {
				if r.Header.Get("Authorization") != "" || r.Header.Get("Referer") != "" {
					t.Errorf("the other host got %v", r.Header)
				}
			}
		})
	}
}

func TestUnknownCertificate(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	// It is not issued for that name.
	newDownload(t, strings.Replace(server.URL, "127.0.0.1", "localhost", 1), nil).fails(t, "have this server trust whoever issued the certificate")
}

func TestFromTheDisk(t *testing.T) {
	t.Parallel()
	want := content(1)
	path := filepath.Join(t.TempDir(), "app zip")
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	u := url.URL{Scheme: "file", Path: path}
	newDownload(t, u.String(), want).succeeds(t, want)
	if err := syscall.Mkfifo(path+".pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	newDownload(t, u.String()+".pipe", want).fails(t, "is no file")
}

func TestHead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		code int
		want int64
		err  string
	}{
		"good": {0, 1 << 20, ""}, "not for heads": {405, -1, ""}, "signed for GET": {403, -1, ""}, "not found": {404, -1, "answered 404"}, "down": {502, -1, "answered 502"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				if tt.code != 0 {
					w.WriteHeader(tt.code)
				}
				return tt.code != 0
			})
			d := newDownload(t, m.URL, nil)
			got, err := d.Head(t.Context(), d.URL, token)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %d, %v", got, err)
			}
			if r := m.requests[0]; r.Method != http.MethodHead || r.Header.Get("Authorization") != token {
				t.Errorf("asked by %s with %v", r.Method, r.Header)
			}
		})
	}
}
