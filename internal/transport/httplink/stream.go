package httplink

import (
	"bytes"
	"errors"
	"fmt"
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

// stream is one agent's open request for orders. Its lines are written by one
// goroutine at a time, which is there only while there are lines.
type stream struct {
	endpoint, instance string
	// timeout is how long the agent may take none of a piece, keepalive the interval of
	// the signs of life that it was told.
	timeout, keepalive time.Duration

	// These belong to the hub's mutex: when the agent last spoke, and the types it
	// serves (nil until its hello).
	heard  time.Time
	serves map[string]bool
	// beat is the interval of its heartbeats, or the one that it was told if that
	// is longer; zero is the hub's.
	beat time.Duration

	writing sync.WaitGroup

	mu      sync.Mutex
	out     outlet // nil until the answer has begun
	lines   []line
	waiting int // bytes of the lines
	busy    bool
	behind  bool
	over    error // why it is to end, or has ended
	wrote   time.Time
}

// enqueue takes a line, or says why not.
func (s *stream) enqueue(l line) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over != nil:
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
	if s.out != nil && !s.busy {
		s.busy = true
		s.writing.Go(s.write)
	}
}

// keepAlive adds an empty line if nothing was written for the interval, nor is to be.
func (s *stream) keepAlive(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over == nil && s.out != nil && !s.busy && now.Sub(s.wrote) >= s.keepalive {
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

// end has the stream end, for a reason; the first one counts. What is being written
// has a moment to get there.
func (s *stream) end(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over != nil {
		return
	}
	s.over = why
	if s.out != nil {
		s.hurry()
	}
}

// hurry belongs to the mutex.
func (s *stream) hurry() {
	_ = s.out.SetWriteDeadline(time.Now().Add(farewell)) // one that takes no deadline is gone
	s.out.interrupt()
}

// ended says why the stream is to end, or has ended; nil if it goes on.
func (s *stream) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// begin has the stream written to out, first what begins the answer.
func (s *stream) begin(out outlet, first []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out = out; s.over != nil {
		s.hurry()
		return
	}
	s.add(line{body: append(first, '\n')}) // the agent sees at once that it is connected
}

// serve returns when the stream has ended, and says why.
func (s *stream) serve() error {
	s.end(s.out.wait())
	s.writing.Wait()
	s.out.close()
	return s.ended()
}

// write writes the lines that wait, until there are none.
func (s *stream) write() {
	for lines := s.take(); len(lines) > 0; lines = s.take() {
		for len(lines) > 0 {
			n, size := 0, 0
			for n < len(lines) && size < piece {
				size += len(lines[n].body)
				n++
			}
			if err := s.put(lines[:n]); err != nil {
				settle(lines, fmt.Errorf("%w: %w", transport.ErrOffline, err))
				s.end(err)
				return
			}
			settle(lines[:n], nil)
			lines = lines[n:]
		}
	}
}

// put hands lines to the network. Each piece has its own deadline, so that a
// slow agent is not mistaken for one that is gone.
func (s *stream) put(lines []line) error {
	for p := range slices.Chunk(joined(lines), piece) {
		if err := s.limit(time.Now().Add(s.timeout)); err != nil {
			return err
		}
		if _, err := s.out.Write(p); err != nil {
			return fmt.Errorf("write to the agent: %w", err)
		}
	}
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("write to the agent: %w", err)
	}
	// Over HTTP/2 a deadline that passes ends even an idle stream. One that is to end
	// keeps its own.
	_ = s.limit(time.Time{})
	return nil
}

// joined is the lines as they are written, with as few calls as possible.
func joined(lines []line) []byte {
	if len(lines) == 1 {
		return lines[0].body
	}
	var b bytes.Buffer
	for _, l := range lines {
		b.Write(l.body)
	}
	return b.Bytes()
}

// limit sets the deadline of what is written next, unless the stream is to end.
func (s *stream) limit(deadline time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over != nil {
		return s.over
	}
	if err := s.out.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("set a deadline: %w", err)
	}
	return nil
}
