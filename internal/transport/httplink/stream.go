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
	// maxQueued is the largest size of the frames that wait for one agent to read, in
	// bytes.
	maxQueued = 64 << 20
	// maxWrite is the largest size of one write, in bytes.
	maxWrite = 64 << 10
	// closeTimeout is how long a write in progress may take when the stream ends.
	closeTimeout = time.Second
)

var (
	errSilentAgent  = errors.New("the agent has stopped reporting")
	errReplaced     = errors.New("the agent opened another stream")
	errDisconnected = errors.New("the endpoint was disconnected")
	errSlow         = fmt.Errorf("%w: the agent is slow to read earlier orders", transport.ErrUnavailable)
)

// frame is one line of a stream: an order or a keepalive.
type frame struct {
	body []byte
	// results receives the result of the write, under index; nil if no Send waits for it.
	// It has room for the result.
	results chan<- writeResult
	index   int
}

// writeResult is the result of the write of one frame.
type writeResult struct {
	index int
	err   error
}

func reportResults(frames []frame, err error) {
	for _, f := range frames {
		if f.results != nil {
			f.results <- writeResult{f.index, err}
		}
	}
}

// stream is an agent's open request for orders. At most one goroutine writes its frames; it
// runs only while there are frames.
type stream struct {
	// process is a random id of the agent's process; empty if the agent does not state it.
	endpoint, instance, process string
	// writeTimeout limits one write, keepaliveInterval is the interval of the keepalives that the
	// agent expects.
	writeTimeout, keepaliveInterval time.Duration

	// The registry's mutex protects the following fields.

	// lastReport is when the agent last reported.
	lastReport time.Time
	// serves are the task types that the endpoint serves; nil before its hello.
	serves map[string]bool
	// heartbeat is the longer one of the interval that the agent reported and the interval
	// of its welcome; zero is the default of the hub.
	heartbeat time.Duration
	contest   contest

	writer sync.WaitGroup

	mu          sync.Mutex
	out         streamOutput // nil until the response has begun
	frames      []frame
	queuedBytes int
	writing     bool
	slow        bool
	reason      error // why the stream ends or has ended
	lastWrite   time.Time
}

// start begins to write the stream to out. The head of the response comes first.
func (s *stream) start(out streamOutput, head []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out = out; s.reason != nil {
		s.interruptLocked()
		return
	}
	s.appendLocked(frame{body: append(head, '\n')}) // the agent sees at once that it is connected
}

// run returns the reason after the stream has ended.
func (s *stream) run() error {
	s.end(s.out.waitClosed())
	s.writer.Wait()
	s.out.close()
	return s.endReason()
}

// end ends the stream for a reason; only the first reason counts. A write in progress may
// finish within closeTimeout.
func (s *stream) end(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != nil {
		return
	}
	s.reason = reason
	if s.out != nil {
		s.interruptLocked()
	}
}

// interruptLocked must be called with mu held.
func (s *stream) interruptLocked() {
	_ = s.out.SetWriteDeadline(time.Now().Add(closeTimeout)) // it fails only if the connection is closed
	s.out.interrupt()
}

// endReason returns why the stream ends or has ended; nil if it continues.
func (s *stream) endReason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// enqueue appends a frame, or returns an error if the agent is offline or slow.
func (s *stream) enqueue(f frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.reason != nil:
		return transport.ErrOffline
	case s.queuedBytes+len(f.body) > maxQueued, s.slow && f.results != nil:
		return errSlow
	}
	s.appendLocked(f)
	return nil
}

// appendLocked must be called with mu held.
func (s *stream) appendLocked(f frame) {
	s.frames = append(s.frames, f)
	s.queuedBytes += len(f.body)
	if s.out != nil && !s.writing {
		s.writing = true
		s.writer.Go(s.writeQueued)
	}
}

// sendKeepalive appends an empty line if the stream was idle for the keepalive interval.
func (s *stream) sendKeepalive(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == nil && s.out != nil && !s.writing && now.Sub(s.lastWrite) >= s.keepaliveInterval {
		s.appendLocked(frame{body: []byte("\n")})
	}
}

// markSlow records that a Send has stopped waiting for the agent to read.
func (s *stream) markSlow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = s.writing || len(s.frames) > 0
}

// dequeue returns the queued frames. If there are none, everything has been written.
func (s *stream) dequeue() []frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	frames := s.frames
	s.frames, s.queuedBytes, s.writing = nil, 0, len(frames) > 0
	if !s.writing {
		s.slow, s.lastWrite = false, time.Now()
	}
	return frames
}

// writeQueued writes the queued frames until there are none.
func (s *stream) writeQueued() {
	for frames := s.dequeue(); len(frames) > 0; frames = s.dequeue() {
		for len(frames) > 0 {
			n, size := 0, 0
			for n < len(frames) && size < maxWrite {
				size += len(frames[n].body)
				n++
			}
			if err := s.write(frames[:n]); err != nil {
				// The agent may have read a part of the write.
				reportResults(frames[:n], fmt.Errorf("%w: %w", transport.ErrUnavailable, err))
				reportResults(frames[n:], fmt.Errorf("%w: %w", transport.ErrOffline, err))
				s.end(err)
				return
			}
			reportResults(frames[:n], nil)
			frames = frames[n:]
		}
	}
}

// write writes and flushes frames. Each chunk has its own deadline, so that a slow agent
// does not count as a silent one.
func (s *stream) write(frames []frame) error {
	for chunk := range slices.Chunk(concat(frames), maxWrite) {
		if err := s.setWriteDeadline(time.Now().Add(s.writeTimeout)); err != nil {
			return err
		}
		if _, err := s.out.Write(chunk); err != nil {
			return fmt.Errorf("write to the agent: %w", err)
		}
	}
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("write to the agent: %w", err)
	}
	// With HTTP/2 a passed deadline would end even an idle stream.
	_ = s.setWriteDeadline(time.Time{}) // a stream that ends keeps its own deadline
	return nil
}

// concat joins the frames, so that one write suffices.
func concat(frames []frame) []byte {
	if len(frames) == 1 {
		return frames[0].body
	}
	var b bytes.Buffer
	for _, f := range frames {
		b.Write(f.body)
	}
	return b.Bytes()
}

// setWriteDeadline sets the deadline of the next write, unless the stream ends.
func (s *stream) setWriteDeadline(deadline time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != nil {
		return s.reason
	}
	if err := s.out.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("set a deadline: %w", err)
	}
	return nil
}
