package process

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// streams copies the stdin and the output of a command between pipes and the reader and
// writers of a Spec.
type streams struct {
	input    *os.File
	outputs  []*os.File
	treeGone chan struct{}
	copiers  sync.WaitGroup
	mu       sync.Mutex
	err      error
}

func newStreams() *streams { return &streams{treeGone: make(chan struct{})} }

// addInput starts to copy src to the command's stdin.
func (s *streams) addInput(src io.Reader, pipe *os.File) {
	s.input = pipe
	s.copiers.Go(func() {
		_, err := io.Copy(pipe, src)
		if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, fs.ErrClosed) {
			s.fail(err)
		}
		pipe.Close()
	})
}

// addOutput starts to copy output of the command to dst.
func (s *streams) addOutput(dst io.Writer, pipe *os.File) {
	s.outputs = append(s.outputs, pipe)
	s.copiers.Go(func() { s.copyOutput(dst, pipe) })
}

// finish returns when all output was copied. The process tree must be gone.
func (s *streams) finish() error {
	close(s.treeGone)
	if s.input != nil {
		s.input.Close()
	}
	for _, f := range s.outputs {
		// Interrupts a Read that waits for a process outside the tree, which got the pipe
		// from a process of the tree.
		_ = f.SetReadDeadline(time.Now())
	}
	s.copiers.Wait()
	return s.err
}

// copyOutput copies until the end of the pipe. Once the tree is gone, it copies only what is
// in the pipe by then. After an error of dst it continues to read, so that the command does
// not block.
func (s *streams) copyOutput(dst io.Writer, src *os.File) {
	buf := make([]byte, 32<<10)
	for left := -1; left != 0; {
		if left < 0 && s.isTreeGone() {
			left = bytesInPipe(src)
			_ = src.SetReadDeadline(time.Time{})
			continue
		}
		chunk := buf
		if left > 0 {
			chunk = buf[:min(left, len(buf))]
		}
		n, err := src.Read(chunk)
		if left > 0 {
			left -= n
		}
		if n > 0 && dst != nil {
			if _, err := dst.Write(chunk[:n]); err != nil {
				s.fail(err)
				dst = nil
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && left < 0 {
			continue
		}
		if err != nil {
			return
		}
	}
}

func (s *streams) isTreeGone() bool {
	select {
	case <-s.treeGone:
		return true
	default:
		return false
	}
}

func (s *streams) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.err, err)
}

// bytesInPipe returns the number of bytes that can be read from a pipe.
func bytesInPipe(f *os.File) int {
	n := 0
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n
}
