package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// balancer is a load balancer, round robin over the hosts with a successful health check. It
// sends a failed request to the next host, and skips the failed host until its next
// successful check. Since the checks lag behind, it tries unhealthy hosts last.
type balancer struct {
	transport http.RoundTripper
	backends  []*backend
	turn      atomic.Uint32
}

type backend struct {
	address string
	healthy atomic.Bool
}

// newBalancer serves the returned URL until the test ends.
func newBalancer(l *lab, hosts ...string) string {
	l.t.Helper()
	transport := &http.Transport{DialContext: l.dial, DisableKeepAlives: true, ResponseHeaderTimeout: 5 * time.Second}
	b := &balancer{transport: transport}
	for _, host := range hosts {
		h := &backend{address: l.do("ip", host) + ":8080"}
		b.backends = append(b.backends, h)
		check := func(ctx context.Context) {
			_, err := get(ctx, transport, "http://"+h.address+"/")
			h.healthy.Store(err == nil)
		}
		check(l.t.Context())
		repeatUntilEnd(l.t, check) // one goroutine per host, because a host that is off causes long timeouts
	}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Transport: b,
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme = "http" },
	})
	l.t.Cleanup(server.Close)
	return server.URL + "/"
}

// nextOrder returns the order in which a request tries the hosts.
func (b *balancer) nextOrder() []*backend {
	n := int(b.turn.Add(1)) % len(b.backends)
	var healthy, others []*backend
	for _, h := range slices.Concat(b.backends[n:], b.backends[:n]) {
		if h.healthy.Load() {
			healthy = append(healthy, h)
		} else {
			others = append(others, h)
		}
	}
	return append(healthy, others...)
}

// RoundTrip tries one host after the other.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	failed := errors.New("no host answers")
	for _, backend := range b.nextOrder() {
		out := r.Clone(r.Context())
		out.URL.Host = backend.address
		resp, err := b.transport.RoundTrip(out)
		if err == nil && resp.StatusCode/100 == 2 {
			return resp, nil
		}
		if err == nil {
			err = fmt.Errorf("%s returned %s", backend.address, resp.Status)
			_ = resp.Body.Close()
		}
		backend.healthy.Store(false)
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

// visitor sends requests to the application continuously.
type visitor struct {
	mu       sync.Mutex
	visits   int
	errs     []error
	versions []string // the versions, in the order in which they first came
}

func visit(t *testing.T, url string) *visitor {
	t.Helper()
	v := &visitor{}
	for range 4 {
		repeatUntilEnd(t, func(ctx context.Context) {
			output, err := get(ctx, http.DefaultTransport, url)
			if ctx.Err() != nil {
				return
			}
			v.mu.Lock()
			defer v.mu.Unlock()
			v.visits++
			if err != nil {
				v.errs = append(v.errs, fmt.Errorf("at %s: %w", time.Now().Format("15:04:05.000"), err))
			} else if !slices.Contains(v.versions, output) {
				v.versions = append(v.versions, output)
			}
		})
	}
	return v
}

// checkAnswered checks that no request has failed since the last call.
func (v *visitor) checkAnswered(t *testing.T, during string) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.errs) > 0 || v.visits == 0 {
		t.Errorf("%s: %d of %d requests failed: %v", during, len(v.errs), v.visits, v.errs[:min(3, len(v.errs))])
	}
	t.Logf("%s: %d visits, answered with %v", during, v.visits, v.versions)
	v.visits, v.errs, v.versions = 0, nil, nil
}

// repeatUntilEnd calls a function repeatedly until the test ends.
func repeatUntilEnd(t *testing.T, do func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		pause := time.NewTicker(20 * time.Millisecond)
		defer pause.Stop()
		for ctx.Err() == nil {
			do(ctx)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
		}
	}()
}

// get returns the body of a 2xx response.
func get(ctx context.Context, transport http.RoundTripper, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	output, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", resp.Status, output)
	}
	return string(output), err
}
