package httplink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/transport"
)

const (
	// maxWaiting bounds the lines that wait for one agent to read, in bytes.
	maxWaiting = 64 << 20
	// piece is how much is written at once, in bytes.
	piece = 64 << 10
	// farewell is how long a stream that is to end may take for what is being
	// written.
	farewell = time.Second
)

var (
	errSilentAgent  = errors.New("the agent fell silent")
	errReplaced     = errors.New("the agent opened another stream")
	errDisconnected = errors.New("the endpoint was shut out")
)

// line is one line of a stream.
type line struct {
	body []byte
	// written is told under index what became of the line; nil when nobody asks.
	// It has room for that.
	written chan<- result
	index   int
}

type result struct {
	index int
	err   error
}

func settle(lines []line, err error) {
	for _, l := range lines {
		if l.written != nil {
			l.written <- result{l.index, err}
		}
	}
}

// stream is one agent's open request for orders. Its lines are written by the
// goroutine of the request alone.
type stream struct {
	endpoint, instance string
	// end makes the request return, for a reason.
	end context.CancelCauseFunc
	// timeout is how long the agent may take none of a piece.
	timeout time.Duration

	// These belong to the hub's mutex: when the agent last spoke, and the types it
	// serves (nil until its hello).
	heard  time.Time
	serves map[string]bool
	// beat is the interval of its heartbeats, or the one that it was told if that
	// is longer; zero is the hub's.
	beat time.Duration

	mu      sync.Mutex
	lines   []line
	waiting int // bytes of the lines
	busy    bool
	behind  bool
	over    bool
	wrote   time.Time
	more    chan struct{} // holds one when there are lines
}

// enqueue takes a line, or says why not.
func (s *stream) enqueue(l line) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
		return transport.ErrOffline
	case s.waiting+len(l.body) > maxWaiting, s.behind && l.written != nil:
		return errBehind
	}
	s.add(l)
	return nil
}

func (s *stream) add(l line) {
	s.lines = append(s.lines, l)
	s.waiting += len(l.body)
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// keepAlive adds an empty line if nothing was written since idle, nor is to be.
func (s *stream) keepAlive(idle time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over && !s.busy && len(s.lines) == 0 && s.wrote.Before(idle) {
		s.add(line{body: []byte("\n")})
	}
}

// fallBehind notes that a Send gave up waiting for the agent to read.
func (s *stream) fallBehind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind = s.busy || len(s.lines) > 0
}

// take returns the waiting lines. There are none when the last ones taken have
// been written and nothing has come since.
func (s *stream) take() []line {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.lines
	s.lines, s.waiting, s.busy = nil, 0, len(lines) > 0
	if !s.busy {
		s.behind, s.wrote = false, time.Now()
	}
	return lines
}

// finish settles what was not written; nothing is taken from then on.
func (s *stream) finish() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	settle(s.take(), transport.ErrOffline)
}

// write writes the lines until ctx is done or the agent is gone, and says why it
// ended.
func (s *stream) write(ctx context.Context, w http.ResponseWriter) error {
	control := http.NewResponseController(w)
	hurry := func() { _ = control.SetWriteDeadline(time.Now().Add(farewell)) }
	hurried := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(hurried)
		hurry() // ends what is being written
	})
	defer func() {
		if !stop() {
			<-hurried // it must not touch the request after its end
		}
		hurry() // the server has to write the end of the stream
	}()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.more:
		}
		for lines := s.take(); len(lines) > 0; lines = s.take() {
			for len(lines) > 0 {
				n, size := 0, 0
				for n < len(lines) && size < piece {
					size += len(lines[n].body)
					n++
				}
				if err := put(ctx, control, w, lines[:n], s.timeout); err != nil {
					settle(lines, fmt.Errorf("%w: %w", transport.ErrOffline, err))
					return err
				}
				settle(lines[:n], nil)
				lines = lines[n:]
			}
		}
	}
}

// put hands lines to the network. Each piece has its own deadline, so that a
// slow agent is not mistaken for one that is gone.
func put(ctx context.Context, control *http.ResponseController, w http.ResponseWriter, lines []line, timeout time.Duration) error {
	extend := func() error {
		if err := control.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return fmt.Errorf("set a deadline: %w", err)
		}
		return context.Cause(ctx) // if it is done after this, it sets a deadline itself
	}
	for _, l := range lines {
		for p := range slices.Chunk(l.body, piece) {
			if err := extend(); err != nil {
				return err
			}
			if _, err := w.Write(p); err != nil {
				return fmt.Errorf("write to the agent: %w", err)
			}
		}
	}
	if err := extend(); err != nil {
		return err
	}
	if err := control.Flush(); err != nil {
		return fmt.Errorf("write to the agent: %w", err)
	}
	// Over HTTP/2 a deadline that passes ends even an idle stream.
	if err := control.SetWriteDeadline(time.Time{}); err != nil {
		return fmt.Errorf("end a deadline: %w", err)
	}
	return nil
}
