package httplink

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

const (
	// steady is how long a session must have lasted for the next attempt to begin
	// with a short wait again.
	steady = 10 * time.Second
	// defaultSilence is how long a hub that does not name its interval may be
	// silent.
	defaultSilence = 15 * time.Second
)

// errSilent ends a session on which no sign of life came.
var errSilent = errors.New("no sign of life from the control plane")

// Receive implements transport.Link.
func (l *Link) Receive(ctx context.Context, handle func(context.Context, []tasker.Order) error) error {
	ctx, done, ok := l.begin(ctx)
	if !ok {
		return transport.ErrClosed
	}
	defer done()
	for tries := 0; ; tries++ {
		began := time.Now()
		err := l.session(ctx, handle)
		if ctx.Err() != nil {
			return ended(ctx)
		}
		l.observe(err)
		if time.Since(began) > steady {
			tries = 0
		}
		wait := reconnect()
		if errors.Is(err, transport.ErrUnauthorized) {
			wait = admission()
		}
		if wait.Sleep(ctx, tries) != nil {
			return ended(ctx)
		}
	}
}

func (l *Link) observe(err error) {
	if l.opts.Observer != nil {
		l.opts.Observer(err)
	}
}

// session opens a stream and hands over what comes, until it ends; its error
// says why.
func (l *Link) session(ctx context.Context, handle func(context.Context, []tasker.Order) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	resp, err := l.do(ctx, http.MethodGet, ordersPath, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	pulse := newPulse(resp, end)
	defer pulse.timer.Stop()
	resp.Body = pulse
	if resp.StatusCode != http.StatusOK {
		return explain(resp)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != streamType {
		return fmt.Errorf("%s is no control plane that agents connect to; check server.uri", l.base)
	}
	l.observe(nil)
	cue := func() []tasker.Order { return nil }
	if err := hand(ctx, l.opts.Log, cue, handle); err != nil {
		return err
	}
	lines := bufio.NewReaderSize(resp.Body, 16<<10)
	for {
		orders, raw, err := l.batch(lines)
		if len(orders) > 0 {
			if err := hand(ctx, l.opts.Log, again(orders, raw, decodeOrder), handle); err != nil {
				return err
			}
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return errors.New("the control plane ended the stream of orders")
		case err != nil:
			return fmt.Errorf("read the stream of orders: %w", err)
		}
	}
}

// batch reads one line and those that are there already. Orders before an error
// are returned with it.
func (l *Link) batch(lines *bufio.Reader) (orders []tasker.Order, raws []json.RawMessage, err error) {
	for {
		raw, err := lines.ReadBytes('\n')
		if err != nil {
			return orders, raws, err // a line without its end is cut off
		}
		if raw = bytes.TrimSpace(raw); len(raw) > 0 {
			o, err := decodeOrder(raw)
			switch {
			case errors.Is(err, errVersion):
				l.opts.Log.Error("order is of a newer version and is dropped; upgrade the agent",
					"endpoint", l.opts.Endpoint, "known", tasker.MaxWireVersion)
			case err != nil:
				l.opts.Log.Error("order cannot be read and is dropped", "endpoint", l.opts.Endpoint, "bytes", len(raw), "error", err)
			default:
				orders, raws = append(orders, o), append(raws, raw)
			}
		}
		if len(orders) == maxBatch || !whole(lines) {
			return orders, raws, nil
		}
	}
}

// whole says whether a whole line is in the buffer, so that reading it does not
// wait.
func whole(lines *bufio.Reader) bool {
	ahead, _ := lines.Peek(lines.Buffered()) // it does not read
	return bytes.IndexByte(ahead, '\n') >= 0
}

// pulse ends a session when a read of its body takes too long.
type pulse struct {
	io.ReadCloser
	silence time.Duration
	timer   *time.Timer
}

// newPulse allows three of the intervals that the hub names.
func newPulse(resp *http.Response, end context.CancelCauseFunc) *pulse {
	silence := defaultSilence
	if s, err := strconv.ParseFloat(resp.Header.Get(keepaliveHeader), 64); err == nil && s > 0 && s < 3600 {
		silence = time.Duration(3 * s * float64(time.Second))
	}
	p := &pulse{ReadCloser: resp.Body, silence: silence}
	p.timer = time.AfterFunc(silence, func() { end(fmt.Errorf("%w for %s", errSilent, silence)) })
	p.timer.Stop()
	return p
}

// Read reads, and ends the session if nothing comes in time.
func (p *pulse) Read(b []byte) (int, error) {
	p.timer.Reset(p.silence)
	defer p.timer.Stop()
	return p.ReadCloser.Read(b)
}
