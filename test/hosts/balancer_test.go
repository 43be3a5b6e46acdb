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

// balancer is a load balancer before an application: round robin over the hosts that
// answer their health check. What a host does not answer is asked of the next one, and
// that host gets nothing more until it is healthy, unless none of those that are does
// answer: the checks lag behind what happens.
type balancer struct {
	transport http.RoundTripper
	backends  []*backend
	turn      atomic.Uint32
}

type backend struct {
	address string
	healthy atomic.Bool
}

// newBalancer answers at the returned URL until the test ends. Its hosts are in a lab.
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
		during(l.t, check) // each for itself, as one that is off may be long in not answering
	}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Transport: b,
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme = "http" },
	})
	l.t.Cleanup(server.Close)
	return server.URL + "/"
}

// inTurn are the hosts in the order in which one request is to be asked of them.
func (b *balancer) inTurn() []*backend {
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

// RoundTrip asks one host after the other.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	failed := errors.New("no host answers")
	for _, backend := range b.inTurn() {
		out := r.Clone(r.Context())
		out.URL.Host = backend.address
		resp, err := b.transport.RoundTrip(out)
		if err == nil && resp.StatusCode/100 == 2 {
			return resp, nil
		}
		if err == nil {
			err = fmt.Errorf("%s answered %s", backend.address, resp.Status)
			_ = resp.Body.Close()
		}
		backend.healthy.Store(false)
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

// visitor asks the application all the time.
type visitor struct {
	mu     sync.Mutex
	visits int
	errs   []error
	said   []string // the versions, in the order in which they first came
}

func visit(t *testing.T, url string) *visitor {
	t.Helper()
	v := &visitor{}
	for range 4 {
		during(t, func(ctx context.Context) {
			said, err := get(ctx, http.DefaultTransport, url)
			if ctx.Err() != nil {
				return
			}
			v.mu.Lock()
			defer v.mu.Unlock()
			v.visits++
			if err != nil {
				v.errs = append(v.errs, fmt.Errorf("at %s: %w", time.Now().Format("15:04:05.000"), err))
			} else if !slices.Contains(v.said, said) {
				v.said = append(v.said, said)
			}
		})
	}
	return v
}

// answered checks that all was answered since it was asked last.
func (v *visitor) answered(t *testing.T, during string) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.errs) > 0 || v.visits == 0 {
		t.Errorf("%s: %d of %d visits were not answered: %v", during, len(v.errs), v.visits, v.errs[:min(3, len(v.errs))])
	}
	t.Logf("%s: %d visits, answered with %v", during, v.visits, v.said)
	v.visits, v.errs, v.said = 0, nil, nil
}

// during does something again and again until the test ends.
func during(t *testing.T, do func(context.Context)) {
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

// get returns what a URL says with 2xx.
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
	said, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", resp.Status, said)
	}
	return string(said), err
}
