package rabbitmq

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// frame encodes an AMQP frame.
func frame(kind byte, channel uint16, payload []byte) []byte {
	b := []byte{kind}
	b = binary.BigEndian.AppendUint16(b, channel)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(append(b, payload...), 0xCE)
}

// content encodes the header and the bodies of a message.
func content(channel uint16, size int, bodies ...[]byte) []byte {
	payload := []byte{0, 60, 0, 0}
	payload = binary.BigEndian.AppendUint64(payload, uint64(size))
	b := frame(headerFrame, channel, append(payload, 0, 0))
	for _, body := range bodies {
		b = append(b, frame(bodyFrame, channel, body)...)
	}
	return b
}

// connected returns a bounded connection from which sent can be read.
func connected(t testing.TB, sent []byte, maxBody uint64, received *budget) *boundedConn {
	ours, theirs := net.Pipe()
	go func() {
		_, _ = theirs.Write(sent)
		_ = theirs.Close()
	}()
	t.Cleanup(func() { _ = ours.Close() })
	return newBoundedConn(ours, maxBody, received)
}

func TestLargeBodiesAreNotReceived(t *testing.T) {
	t.Parallel()
	small, half := []byte("0123456789"), bytes.Repeat([]byte("x"), 6)
	method := frame(methodFrame, 1, []byte("deliver"))
	sent := slices.Concat(
		method, content(1, 10, small),
		method, content(1, 12, half, half), // too large, in two frames
		frame(heartbeatFrame, 0, nil),
		method, content(2, 11, []byte("01234567890")),
		method, content(1, 0),
		method, content(1, 10, small),
	)
	want := slices.Concat(
		method, content(1, 10, small), method, content(1, 0), frame(heartbeatFrame, 0, nil),
		method, content(2, 0), method, content(1, 0), method, content(1, 10, small),
	)
	got, err := io.ReadAll(connected(t, sent, 10, newBudget(1<<20)))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("received %q, %v; want %q", got, err, want)
	}
}

// The messages of two channels are interleaved, and reads have any size.
func TestFramesOfChannelsAreKeptApart(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var sent, want []byte
		for range rapid.IntRange(0, 10).Draw(rt, "messages") {
			var frames, kept [2][][]byte
			for channel := range 2 {
				bodies := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 20), 0, 4).Draw(rt, "bodies")
				size := len(slices.Concat(bodies...))
				frames[channel] = [][]byte{content(uint16(channel), size)}
				kept[channel] = frames[channel]
				if size > 30 {
					kept[channel] = [][]byte{content(uint16(channel), 0)}
				}
				for _, b := range bodies {
					frames[channel] = append(frames[channel], frame(bodyFrame, uint16(channel), b))
					if size <= 30 {
						kept[channel] = append(kept[channel], frame(bodyFrame, uint16(channel), b))
					}
				}
			}
			// Empty body frames after a body that was skipped are passed on; the broker sends none.
			if slices.ContainsFunc(slices.Concat(frames[0], frames[1]), func(f []byte) bool { return f[0] == bodyFrame && len(f) == 8 }) {
				continue
			}
			for channel := range 2 {
				sent, want = append(sent, frames[channel][0]...), append(want, kept[channel][0]...)
			}
			for channel := range 2 {
				sent = append(sent, slices.Concat(frames[channel][1:]...)...)
				want = append(want, slices.Concat(kept[channel][1:]...)...)
			}
		}
		c := connected(t, sent, 30, newBudget(1<<20))
		size := rapid.IntRange(1, 50).Draw(rt, "size of reads")
		var got []byte
		for buffer := make([]byte, size); ; {
			n, err := c.Read(buffer)
			got = append(got, buffer[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				rt.Fatal(err)
			}
		}
		if !bytes.Equal(got, want) {
			rt.Errorf("received %q, want %q", got, want)
		}
	})
}

func TestForeignProtocolIsPassedOn(t *testing.T) {
	t.Parallel()
	for _, sent := range []string{"AMQP\x00\x00\x09\x01", "HTTP/1.1 400 Bad Request\r\n\r\n"} {
		if got, err := io.ReadAll(connected(t, []byte(sent), 10, newBudget(10))); err != nil || string(got) != sent {
			t.Errorf("received %q, %v; want %q", got, err, sent)
		}
	}
}

func TestMessagesWaitForTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(2 * messageOverhead)
		for range 2 {
			if err := b.take(0); err != nil {
				t.Fatal(err)
			}
		}
		result := make(chan error, 1)
		take := func() { result <- b.take(1 << 20) }
		go take()
		synctest.Wait()
		if len(result) > 0 {
			t.Fatal("a message was received although the budget is exhausted")
		}
		b.release(0)
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		go take()
		b.setDeadline(time.Now().Add(time.Second))
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after the deadline: %v", err)
		}
		b.setDeadline(time.Time{})
		go take()
		synctest.Wait()
		b.close()
		if err := <-result; !errors.Is(err, net.ErrClosed) {
			t.Errorf("after close: %v", err)
		}
	})
}
