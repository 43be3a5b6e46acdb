package artifact

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers/artifact/fetch"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

func (h *Health) command() []string {
	if h == nil {
		return nil
	}
	return h.Command
}

// healthy checks until the current release is, as often as the task says.
func (d *deployment) healthy(ctx context.Context, version string) error {
	h := d.Health
	if h == nil {
		return nil
	}
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
	d.step("health", 90, "checking whether "+version+" is healthy")
	var err error
	for tries := 0; tries <= retries; tries++ {
		if tries > 0 && backoff.Sleep(ctx, interval) != nil {
			break
		}
		if err = d.probe(ctx, version, timeout); err == nil || ctx.Err() != nil {
			break
		}
		d.call.Progress(90, fmt.Sprintf("%s is not healthy yet (%d of %d): %v", version, tries+1, retries+1, err))
	}
	if err == nil && ctx.Err() == nil {
		return nil
	}
	err = because(ctx, fmt.Errorf("%s is not healthy: %w", version, err))
	if d.Unit == "" {
		return err
	}
	lines := d.Units.Journal(context.WithoutCancel(ctx), d.Unit, d.since)
	if len(lines) == 0 {
		return fmt.Errorf("%w; the journal of %s has nothing of this", err, d.Unit)
	}
	return fmt.Errorf("%w; the last of the journal of %s:\n%s", err, d.Unit, strings.Join(lines, "\n"))
}

// probe checks once.
func (d *deployment) probe(ctx context.Context, version string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %s", timeout))
	defer cancel()
	var err error
	switch h := d.Health; {
	case h.HTTP != "":
		err = get(ctx, h.HTTP)
	case h.TCP != "":
		var conn net.Conn
		if conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", h.TCP); err == nil {
			err = conn.Close()
		}
	default:
		err = d.run(ctx, version, h.Command)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// get wants a 2xx.
func get(ctx context.Context, to string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, http.NoBody)
	if err != nil {
		return errors.New("payload.health.http makes no request")
	}
	req.Header.Set("User-Agent", "tasker-agent")
	// No connection of the release before may answer, and nobody else.
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	var with *url.Error
	if errors.As(err, &with) {
		return fmt.Errorf("%s: %w", fetch.Redact(req.URL), with.Err)
	}
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s answered %s", fetch.Redact(req.URL), resp.Status)
	}
	return nil
}

// hook runs a program of a release, if the task names one. On the way back the
// release may be one that does not have it.
func (d *deployment) hook(ctx context.Context, step string, percent float64, version string, argv []string) error {
	if len(argv) == 0 {
		return nil
	}
	d.step(step, percent, fmt.Sprintf("running %s of %s", argv[0], version))
	err := d.run(ctx, version, argv)
	if version != d.Version && errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(d.call.Output, "left out: %v\n", err)
		return nil
	}
	if err != nil {
		return because(ctx, fmt.Errorf("the %s, %s of %s, failed: %w", step, argv[0], version, err))
	}
	return nil
}

// run runs a program of a release, which nobody else may be able to change.
func (d *deployment) run(ctx context.Context, version string, argv []string) error {
	release := releasesDir + "/" + version
	program := path.Join(release, argv[0])
	fi, err := d.place.root.Stat(program)
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is no executable file", d.place.at(program))
	}
	for at := program; at != releasesDir; at = path.Dir(at) {
		if err := d.place.trusted(at); err != nil {
			return err
		}
	}
	said := &process.Tail{Out: d.call.Output, Lines: 2}
	exit, err := d.Runner.Run(ctx, process.Spec{
		Argv: append([]string{d.place.at(program)}, argv[1:]...),
		Env:  process.Environ(d.call, map[string]string{"VERSION": version, "RELEASE": d.place.at(release)}),
		Dir:  d.place.at(release), Stdout: said, Stderr: said, RecordProcess: d.call.RecordProcess,
	})
	if err == nil {
		err = exit.Err()
	}
	return said.Explain(err)
}
