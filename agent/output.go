package agent

import (
	"slices"
	"sync"

	"github.com/MatthiasWiesner/tasker"
)

// The bytes that are kept of a handler's output: its head is sent while the handler
// runs, its tail with the final report.
const (
	outputHead = 256 << 10
	outputTail = 64 << 10
)

// output receives the output of a handler. It is safe for concurrent use.
type output struct {
	// written is called by Write when there is output to send.
	written func()

	mu     sync.Mutex
	closed bool
	// total is the number of bytes written, including those of an earlier run of the
	// assignment: offsets continue where that run has stopped.
	total int64
	// head is the part of the first outputHead bytes that was not delivered yet. It
	// starts at offset headAt.
	head   []byte
	headAt int64
	// tail ends at total. It holds up to twice outputTail, so that it is seldom cut.
	tail []byte
	// incomplete means that an earlier run may have written more than it delivered.
	incomplete bool
}

// newOutput returns an output that starts at an offset.
func newOutput(offset int64, written func()) *output {
	return &output{written: written, total: offset, headAt: offset, incomplete: offset > 0}
}

// Write never fails. It ignores what is written after close.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	if o.closed || len(p) == 0 {
		o.mu.Unlock()
		return len(p), nil
	}
	rest := p
	if room := outputHead - o.total; room > 0 {
		n := min(room, int64(len(rest)))
		o.head = append(o.head, rest[:n]...)
		rest = rest[n:]
	}
	o.total += int64(len(p))
	if len(rest) > outputTail {
		rest = rest[len(rest)-outputTail:]
		o.tail = o.tail[:0]
	}
	o.tail = append(o.tail, rest...)
	if len(o.tail) > 2*outputTail {
		o.tail = append(o.tail[:0], o.tail[len(o.tail)-outputTail:]...)
	}
	o.mu.Unlock()
	o.written()
	return len(p), nil
}

// fill sets the fields of u that describe the output, with the head that was not
// delivered yet.
func (o *output) fill(u *tasker.Update) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fillLocked(u)
}

func (o *output) fillLocked(u *tasker.Update) {
	u.OutputBytes = o.total
	u.OutputTruncated = o.incomplete || o.total > outputHead+outputTail
	if len(o.head) > 0 {
		u.Output = []tasker.Chunk{{Offset: o.headAt, Data: slices.Clone(o.head)}}
	}
}

// close fills u with the tail as well. Later writes are ignored.
func (o *output) close(u *tasker.Update) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.fillLocked(u)
	if tail := o.tail[max(0, len(o.tail)-outputTail):]; len(tail) > 0 {
		u.Output = append(u.Output, tasker.Chunk{Offset: o.total - int64(len(tail)), Data: slices.Clone(tail)})
	}
	o.head, o.tail = nil, nil
}

// discard removes delivered chunks from the head.
func (o *output) discard(chunks []tasker.Chunk) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range chunks {
		n := c.Offset + int64(len(c.Data)) - o.headAt
		if n <= 0 || n > int64(len(o.head)) {
			continue
		}
		o.head = append([]byte(nil), o.head[n:]...)
		o.headAt += n
	}
}
