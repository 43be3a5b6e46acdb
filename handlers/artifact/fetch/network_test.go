package fetch_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestGetGivesUp(t *testing.T) {
	t.Parallel()
	// The port is bound, but nothing listens on it.
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
	address := fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port) //nolint:errcheck,forcetypeassert // an IPv4 socket
	// With synctest, the waits between attempts take no time.
	synctest.Test(t, func(t *testing.T) {
		d := newDownload(t, "http://"+address+"/app.zip", nil)
		d.GiveUpAfter = 50 * time.Millisecond
		d.wantError(t, "connection refused; check whether the server is up")
		if !strings.Contains(d.log.String(), "trying again in ") {
			t.Errorf("logged %q", d.log)
		}
		// Get gives up before the deadline.
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		d.GiveUpAfter = time.Hour
		if _, err := d.get(ctx); err == nil || !strings.Contains(err.Error(), "gave up on http://") || ctx.Err() != nil {
			t.Errorf("with little time: %v, %v", err, ctx.Err())
		}
	})
}

// Redirects from https to http are refused, and no other host receives the token.
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
			origin := tt.from(redirect(tt.to))
			t.Cleanup(origin.Close)
			d := newDownload(t, origin.URL, tt.to.content)
			if tt.want != "" {
				d.wantError(t, tt.want)
				return
			}
			d.wantContent(t, tt.to.content)
			tt.to.mu.Lock()
			defer tt.to.mu.Unlock()
			for _, r := range tt.to.requests {
				if r.Header.Get("Authorization") != "" || r.Header.Get("Referer") != "" {
					t.Errorf("the other host received %v", r.Header)
				}
			}
		})
	}
}

func TestUnknownCertificate(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	// The certificate is not valid for this name.
	newDownload(t, strings.Replace(server.URL, "127.0.0.1", "localhost", 1), nil).wantError(t, "let this server trust the issuer of the certificate")
}

func TestSize(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		code int
		want int64
		err  string
	}{
		"serves the file": {0, 1 << 20, ""}, "method not allowed": {405, -1, ""}, "signed for GET": {403, -1, ""}, "not found": {404, -1, "responded with 404"}, "down": {502, -1, "responded with 502"},
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
			got, err := d.Size(t.Context(), d.URL, token)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %d, %v", got, err)
			}
			if r := m.requests[0]; r.Method != http.MethodHead || r.Header.Get("Authorization") != token {
				t.Errorf("requested by %s with %v", r.Method, r.Header)
			}
		})
	}
}
