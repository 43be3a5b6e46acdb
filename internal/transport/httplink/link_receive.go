package httplink

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

// defaultTimeout is how long a hub that does not state its keepalive interval may send
// nothing.
const defaultTimeout = 15 * time.Second

// errSilentHub ends a session without keepalives.
var errSilentHub = errors.New("no keepalive from the control plane")

// Receive implements transport.Link.
func (l *Link) Receive(ctx context.Context, handle func(context.Context, []tasker.Order) error) error {
	ctx, end, err := l.operations.Begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	wire.Reconnect(ctx, true, func(ctx context.Context) error {
		err := l.session(ctx, handle)
		if errors.Is(err, errSilentHub) {
			l.renewPath(err)
		}
		return err
	}, l.observe)
	return wire.EndError(ctx)
}

func (l *Link) observe(err error) {
	if l.opts.Observer != nil {
		l.opts.Observer(err)
	}
}

// session opens a stream and delivers its orders until it ends. It returns the reason.
func (l *Link) session(ctx context.Context, handle wire.Handler[tasker.Order]) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	resp, err := l.do(ctx, http.MethodGet, ordersPath, nil)
	if err != nil {
		return explainTimeout(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body := newTimeoutReader(resp, end)
	defer body.timer.Stop()
	resp.Body = body
	if resp.StatusCode != http.StatusOK {
		return responseError(resp)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != streamType {
		return fmt.Errorf("%s is not a control plane that agents can connect to; check server.uri", l.base)
	}
	l.observe(nil)
	var answers sync.WaitGroup
	defer answers.Wait()
	answer := make(chan struct{}, 1)
	answers.Go(func() { l.answerProbes(ctx, answer) })
	defer end(nil) // ends answerProbes
	if err := wire.Signal(ctx, ctx, l.opts.Log, handle); err != nil {
		return err
	}
	lines := bufio.NewReaderSize(resp.Body, 16<<10)
	for {
		orders, err := l.readBatch(lines, answer)
		if len(orders) > 0 {
			if err := wire.Deliver(ctx, ctx, l.opts.Log, orders, wire.DecodeOrder, handle); err != nil {
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

// explainTimeout adds the likely cause to the error of a request for the stream that was
// sent, but not answered.
func explainTimeout(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() && strings.Contains(err.Error(), "awaiting response headers") {
		return fmt.Errorf("%w; a proxy between agent and control plane may hold the response back: turn off its buffering (in nginx: proxy_buffering off), or connect without it", err)
	}
	return err
}

// answerProbes answers the probes that answer announces, until ctx is done.
func (l *Link) answerProbes(ctx context.Context, answer <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-answer:
		}
		l.opts.Log.Warn("another process has requested this endpoint's name; does another server run a copy of this data directory?", "endpoint", l.opts.Endpoint)
		if l.opts.Contested != nil {
			l.opts.Contested()
		}
		if err := l.post(ctx, nil); err != nil && ctx.Err() == nil {
			l.opts.Log.Warn("the control plane's probe is not answered", "error", err)
		}
	}
}

// readBatch reads one line and the buffered ones, and announces a probe to answer. It also
// returns the orders before an error.
func (l *Link) readBatch(lines *bufio.Reader, answer chan<- struct{}) ([]wire.Received[tasker.Order], error) {
	var orders []wire.Received[tasker.Order]
	for {
		line, err := readLine(lines)
		if err != nil {
			return orders, err
		}
		if string(line) == probe {
			select {
			case answer <- struct{}{}:
			default: // one answer suffices
			}
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			o, err := wire.DecodeOrder(line)
			switch {
			case errors.Is(err, wire.ErrVersion):
				l.opts.Log.Error("order is of a newer version and is dropped; upgrade the agent",
					"endpoint", l.opts.Endpoint, "known", tasker.MaxWireVersion)
			case err != nil:
				l.opts.Log.Error("order cannot be decoded and is dropped", "endpoint", l.opts.Endpoint, "bytes", len(line), "error", err)
			default:
				orders = append(orders, wire.Received[tasker.Order]{Message: o, Encoded: line})
			}
		}
		if len(orders) == maxBatch || !hasLine(lines) {
			return orders, nil
		}
	}
}

// maxLine is the largest size of a line of the stream, in bytes: several times the largest
// order, whose payload may have tasker.MaxPayload.
const maxLine = 8 << 20

// readLine reads a line with its end. It returns an error if the line is incomplete, or
// longer than maxLine.
func readLine(lines *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := lines.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, fmt.Errorf("a line of the stream has more than %d bytes", maxLine)
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err
		}
	}
}

// hasLine reports whether the buffer contains a complete line.
func hasLine(lines *bufio.Reader) bool {
	buffered, _ := lines.Peek(lines.Buffered()) // does not block
	return bytes.IndexByte(buffered, '\n') >= 0
}

// timeoutReader ends a session when a read of its body takes too long.
type timeoutReader struct {
	io.ReadCloser
	timeout time.Duration
	timer   *time.Timer
}

// newTimeoutReader sets the timeout to three keepalive intervals of the hub.
func newTimeoutReader(resp *http.Response, end context.CancelCauseFunc) *timeoutReader {
	timeout := defaultTimeout
	if s, err := strconv.ParseFloat(resp.Header.Get(keepaliveHeader), 64); err == nil && s > 0 && s < 3600 {
		timeout = time.Duration(3 * s * float64(time.Second))
	}
	r := &timeoutReader{ReadCloser: resp.Body, timeout: timeout}
	r.timer = time.AfterFunc(timeout, func() { end(fmt.Errorf("%w for %s", errSilentHub, timeout)) })
	r.timer.Stop()
	return r
}

// Read implements io.Reader. It ends the session if no data arrives in time.
func (r *timeoutReader) Read(b []byte) (int, error) {
	r.timer.Reset(r.timeout)
	defer r.timer.Stop()
	return r.ReadCloser.Read(b)
}
