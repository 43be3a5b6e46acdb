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

// outlet is what the lines of a stream are written to. One goroutine writes and
// flushes; the other methods may be called beside that.
type outlet interface {
	Write([]byte) (int, error)
	Flush() error
	SetWriteDeadline(time.Time) error
	// wait returns when the agent is gone, and says so, or when interrupt was called.
	wait() error
	interrupt()
	close()
}

var errGone = errors.New("the agent closed the stream")

// open begins the answer to a request for orders. Where the connection is the
// request's alone it is taken over, so that the server keeps neither buffers nor
// goroutines for a stream that mostly idles. first is to be written before
// anything else.
func open(w http.ResponseWriter, r *http.Request) (out outlet, first []byte, err error) {
	control := http.NewResponseController(w)
	if r.Method == http.MethodGet && r.ProtoMajor == 1 {
		conn, _, err := control.Hijack()
		if err == nil {
			return &taken{conn}, head(w.Header()), nil
		}
		if !errors.Is(err, http.ErrNotSupported) {
			return nil, nil, fmt.Errorf("take the connection over: %w", err)
		}
	}
	// The server's time limits are for short requests; the stream sets its own.
	if err := control.SetWriteDeadline(time.Time{}); err != nil {
		return nil, nil, fmt.Errorf("this server cannot keep a stream open: %w", err)
	}
	ctx, cancel := context.WithCancel(r.Context())
	w.WriteHeader(http.StatusOK)
	return &lent{ResponseController: control, w: w, ctx: ctx, interrupted: cancel}, nil, nil
}

// taken is a connection that was the server's. The end of the stream is that of the
// connection.
type taken struct{ net.Conn }

// head is the beginning of an answer on a connection that was taken over.
func head(header http.Header) []byte {
	header.Set("Connection", "close")
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	_ = header.Write(&b) // a buffer takes everything
	b.WriteString("\r\n")
	return b.Bytes()
}

// Flush implements outlet: nothing is kept back.
func (*taken) Flush() error { return nil }

func (t *taken) wait() error {
	var b [1]byte
	n, err := t.Read(b[:])
	if n > 0 {
		return errors.New("the agent sent more than its request on the connection of its stream")
	}
	return fmt.Errorf("%w: %w", errGone, err)
}

func (t *taken) interrupt() { _ = t.SetReadDeadline(time.Unix(1, 0)) } // a connection without it is gone

func (t *taken) close() { _ = t.Close() } // there is nobody to tell

// lent is an answer of the server, whose request lasts as long as the stream. close
// must be called before the request ends.
type lent struct {
	*http.ResponseController
	w           http.ResponseWriter
	ctx         context.Context
	interrupted context.CancelFunc
}

func (l *lent) Write(b []byte) (int, error) { return l.w.Write(b) }

func (l *lent) wait() error {
	<-l.ctx.Done()
	return errGone
}

func (l *lent) interrupt() { l.interrupted() }

func (l *lent) close() { l.interrupted() }
