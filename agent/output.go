package agent

import (
	"slices"
	"sync"

	"github.com/MatthiasWiesner/tasker"
)

// How much is kept of what a handler prints, in bytes: its beginning is sent
// while the handler runs, its end with the final report.
const (
	outputHead = 256 << 10
	outputTail = 64 << 10
)

// output takes what a handler prints. It is safe for concurrent use.
type output struct {
	// news is called, from Write, when there is something to send.
	news func()

	mu     sync.Mutex
	closed bool
	// total counts every byte, those of an earlier run of the assignment too:
	// offsets go on where that run had stopped.
	total int64
	// head is the part of the beginning that was not yet handed over; it starts
	// at offset headAt.
	head   []byte
	headAt int64
	// tail ends at total and holds up to twice outputTail, to be cut seldom.
	tail []byte
	// lost: an earlier run may have printed more than was handed over.
	lost bool
}

func newOutput(from int64, news func()) *output {
	return &output{news: news, total: from, headAt: from, lost: from > 0}
}

// Write never fails. What comes after the handler has returned is ignored.
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
	o.news()
	return len(p), nil
}

// fill puts into u how much was printed and what of the beginning is still to
// be handed over.
func (o *output) fill(u *tasker.Update) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fillLocked(u)
}

func (o *output) fillLocked(u *tasker.Update) {
	u.OutputBytes = o.total
	u.OutputTruncated = o.lost || o.total > outputHead+outputTail
	if len(o.head) > 0 {
		u.Output = []tasker.Chunk{{Offset: o.headAt, Data: slices.Clone(o.head)}}
	}
}

// end fills u for the last time, with the end of the output, and ignores what
// is still to come.
func (o *output) end(u *tasker.Update) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.fillLocked(u)
	if tail := o.tail[max(0, len(o.tail)-outputTail):]; len(tail) > 0 {
		u.Output = append(u.Output, tasker.Chunk{Offset: o.total - int64(len(tail)), Data: slices.Clone(tail)})
	}
	o.head, o.tail = nil, nil
}

// handedOver forgets the beginning as far as the chunks go.
func (o *output) handedOver(chunks []tasker.Chunk) {
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
