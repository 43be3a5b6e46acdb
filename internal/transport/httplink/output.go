package httplink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// streamOutput is the connection of a stream. One goroutine writes and flushes; the other
// methods may be called concurrently.
type streamOutput interface {
	Write([]byte) (int, error)
	Flush() error
	SetWriteDeadline(time.Time) error
	// waitClosed returns after the agent has closed the connection, or after interrupt.
	waitClosed() error
	interrupt()
	close()
}

var errStreamClosed = errors.New("the agent closed the stream")

// beginResponse begins the response to a request for orders. It hijacks an HTTP/1
// connection, so that the server keeps no buffers and goroutines for a stream that is
// mostly idle. The returned head must be written first.
func beginResponse(w http.ResponseWriter, r *http.Request) (out streamOutput, head []byte, err error) {
	control := http.NewResponseController(w)
	if r.Method == http.MethodGet && r.ProtoMajor == 1 {
		conn, _, err := control.Hijack()
		if err == nil {
			return &hijackedOutput{conn}, responseHead(w.Header()), nil
		}
		if !errors.Is(err, http.ErrNotSupported) {
			return nil, nil, fmt.Errorf("hijack the connection: %w", err)
		}
	}
	// The server's time limits suit short requests; the stream sets its own.
	if err := control.SetWriteDeadline(time.Time{}); err != nil {
		return nil, nil, fmt.Errorf("this server cannot keep a stream open: %w", err)
	}
	ctx, cancel := context.WithCancel(r.Context())
	w.WriteHeader(http.StatusOK)
	return &responseOutput{ResponseController: control, w: w, ctx: ctx, cancel: cancel}, nil, nil
}

// hijackedOutput is a connection that the stream has taken over from the server.
type hijackedOutput struct{ net.Conn }

// responseHead returns the status line and the headers of a hijacked response.
func responseHead(header http.Header) []byte {
	header.Set("Connection", "close")
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	_ = header.Write(&b) // writing to a buffer does not fail
	b.WriteString("\r\n")
	return b.Bytes()
}

// Flush implements streamOutput: nothing is buffered.
func (*hijackedOutput) Flush() error { return nil }

func (o *hijackedOutput) waitClosed() error {
	var b [1]byte
	n, err := o.Read(b[:])
	if n > 0 {
		return errors.New("the agent sent more than its request on the connection of its stream")
	}
	return fmt.Errorf("%w: %w", errStreamClosed, err)
}

func (o *hijackedOutput) interrupt() { _ = o.SetReadDeadline(time.Unix(1, 0)) } // it fails only if the connection is closed

func (o *hijackedOutput) close() { _ = o.Close() } // the error has no consequence

// responseOutput is the response of a request that lasts as long as the stream. close must
// be called before the request ends.
type responseOutput struct {
	*http.ResponseController
	w      http.ResponseWriter
	ctx    context.Context
	cancel context.CancelFunc
}

func (o *responseOutput) Write(b []byte) (int, error) { return o.w.Write(b) }

func (o *responseOutput) waitClosed() error {
	<-o.ctx.Done()
	return errStreamClosed
}

func (o *responseOutput) interrupt() { o.cancel() }

func (o *responseOutput) close() { o.cancel() }
