package daemon

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Hangups receives the SIGHUP signals of the process from now on, which then no longer end
// it. Before Handle is called, one signal is kept. It is safe for concurrent use.
type Hangups struct{ signals chan os.Signal }

// CatchHangups starts to receive SIGHUP until ctx is done. Programs that run as services
// call it first.
func CatchHangups(ctx context.Context) *Hangups {
	h := &Hangups{signals: make(chan os.Signal, 1)}
	signal.Notify(h.signals, syscall.SIGHUP)
	// After ctx is done the program stops, and a further signal must not cut that short.
	context.AfterFunc(ctx, func() {
		signal.Ignore(syscall.SIGHUP)
	})
	return h
}

// Handle calls reload for each signal, one call after the other, until stop is called.
// stop waits for a running call.
func (h *Hangups) Handle(reload func()) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-h.signals:
				reload()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}
