package rabbitmq

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// The frames of AMQP 0-9-1: type, channel, size, payload and an end mark. A content header
// has the size of the body at bodySizeAt.
const (
	frameHeaderSize = 7
	frameEndSize    = 1
	bodySizeAt      = frameHeaderSize + 4
	maxFrameSize    = 1 << 20

	methodFrame    = 1
	headerFrame    = 2
	bodyFrame      = 3
	heartbeatFrame = 8
)

// boundedConn is a connection on which messages are received within limits of memory. The
// broker has no such limits: the prefetch counts messages, and a message may have 128 MiB.
//
// A message with a larger body than maxBody is delivered with an empty body; the broker
// keeps the whole message until it is acknowledged or rejected. While the received and
// unreleased messages exceed the budget, Read waits, and with it the broker.
type boundedConn struct {
	net.Conn
	in      *bufio.Reader
	maxBody uint64
	budget  *budget

	// rewritten is the rest of a frame in a new form, unchanged how many bytes follow as
	// they are, and skipped how many bytes of bodies follow that are not passed on, by
	// channel.
	rewritten []byte
	unchanged int
	skipped   map[uint16]uint64
	// foreign means that the broker does not send frames; it refuses the protocol.
	foreign bool
}

func newBoundedConn(c net.Conn, maxBody uint64, budget *budget) *boundedConn {
	return &boundedConn{Conn: c, in: bufio.NewReader(c), maxBody: maxBody, budget: budget, skipped: map[uint16]uint64{}}
}

// Read implements net.Conn.
func (c *boundedConn) Read(p []byte) (int, error) {
	for len(c.rewritten) == 0 && c.unchanged == 0 && !c.foreign {
		if err := c.nextFrame(); err != nil {
			return 0, err
		}
	}
	switch {
	case len(c.rewritten) > 0:
		n := copy(p, c.rewritten)
		c.rewritten = c.rewritten[n:]
		return n, nil
	case c.foreign:
		return c.in.Read(p)
	}
	n, err := c.in.Read(p[:min(len(p), c.unchanged)])
	c.unchanged -= n
	return n, err
}

// nextFrame decides about the next frame.
func (c *boundedConn) nextFrame() error {
	header, err := c.in.Peek(frameHeaderSize)
	if err != nil {
		return err
	}
	kind, channel, size := header[0], binary.BigEndian.Uint16(header[1:]), int(binary.BigEndian.Uint32(header[3:]))
	switch {
	case kind != methodFrame && kind != headerFrame && kind != bodyFrame && kind != heartbeatFrame:
		c.foreign = true
	case size > maxFrameSize:
		return fmt.Errorf("the broker sent a frame of %d bytes", size)
	case kind == headerFrame:
		return c.beginMessage(channel, size+frameHeaderSize+frameEndSize)
	case kind == bodyFrame && c.skipped[channel] > 0:
		if _, err := c.in.Discard(size + frameHeaderSize + frameEndSize); err != nil {
			return err
		}
		if c.skipped[channel] -= min(c.skipped[channel], uint64(size)); c.skipped[channel] == 0 {
			delete(c.skipped, channel)
		}
	default:
		c.unchanged = size + frameHeaderSize + frameEndSize
	}
	return nil
}

// beginMessage reads a content header and waits until the budget has room for its message.
func (c *boundedConn) beginMessage(channel uint16, size int) error {
	frame := make([]byte, size)
	if _, err := io.ReadFull(c.in, frame); err != nil {
		return err
	}
	if len(frame) < bodySizeAt+8+frameEndSize {
		return errors.New("the broker sent a content header that is too short")
	}
	body := binary.BigEndian.Uint64(frame[bodySizeAt:])
	if body > c.maxBody {
		c.skipped[channel] = body
		body = 0
		binary.BigEndian.PutUint64(frame[bodySizeAt:], 0)
	}
	c.rewritten = frame
	return c.budget.take(int(body)) //nolint:gosec // at most maxBody
}

// SetDeadline implements net.Conn.
func (c *boundedConn) SetDeadline(t time.Time) error {
	c.budget.setDeadline(t)
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *boundedConn) SetReadDeadline(t time.Time) error {
	c.budget.setDeadline(t)
	return c.Conn.SetReadDeadline(t)
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	c.budget.close()
	return c.Conn.Close()
}
