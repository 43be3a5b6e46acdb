package artifact

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers/artifact/fetch"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// healthCheck checks one release, as its task describes it.
type healthCheck struct {
	*Health
	*progress
	programs programs
	version  string
}

// wait probes until the release is healthy or the retries are used up.
func (h healthCheck) wait(ctx context.Context) error {
	retries, interval, timeout := defaultRetries, defaultInterval, defaultTimeout
	if h.Retries != nil {
		retries = *h.Retries
	}
	if h.Interval != nil {
		interval = h.Interval.D()
	}
	if h.Timeout != nil && h.Timeout.D() > 0 {
		timeout = h.Timeout.D()
	}
	h.start("health", 90, "checking whether "+h.version+" is healthy")
	var err error
	for tries := 0; tries <= retries; tries++ {
		if tries > 0 && backoff.Sleep(ctx, interval) != nil {
			break
		}
		if err = h.probe(ctx, timeout); err == nil || ctx.Err() != nil {
			break
		}
		h.call.Progress(90, fmt.Sprintf("%s is not healthy yet (%d of %d): %v", h.version, tries+1, retries+1, err))
	}
	if err == nil && ctx.Err() == nil {
		return nil
	}
	return withCause(ctx, fmt.Errorf("%s is not healthy: %w", h.version, err))
}

// probe checks once.
func (h healthCheck) probe(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no response within %s", timeout))
	defer cancel()
	var err error
	switch {
	case h.HTTP != "":
		err = probeHTTP(ctx, h.HTTP)
	case h.TCP != "":
		var conn net.Conn
		if conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", h.TCP); err == nil {
			err = conn.Close()
		}
	default:
		err = h.programs.run(ctx, h.version, h.Command)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// probeHTTP returns an error unless the URL responds with a status 2xx.
func probeHTTP(ctx context.Context, target string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return errors.New("payload.health.http is not a valid URL")
	}
	req.Header.Set("User-Agent", "tasker-agent")
	// A new connection, so that the release before cannot respond on an old one, and no
	// redirects to other servers.
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		return fmt.Errorf("%s: %w", fetch.Redact(req.URL), urlErr.Err)
	}
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s responded with %s", fetch.Redact(req.URL), resp.Status)
	}
	return nil
}

// withJournal adds the last lines of a unit's journal to an error.
func withJournal(err error, unit string, lines []string) error {
	if len(lines) == 0 {
		return fmt.Errorf("%w; the journal of %s has no lines since", err, unit)
	}
	return fmt.Errorf("%w; the last lines of the journal of %s:\n%s", err, unit, strings.Join(lines, "\n"))
}
