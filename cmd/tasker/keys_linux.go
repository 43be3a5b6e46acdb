package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// keyboard reads single keys from a terminal. Whatever ends or stops the program
// by a signal finds the terminal as it was, but for SIGKILL.
type keyboard struct {
	fd      int
	signals chan os.Signal

	mu    sync.Mutex
	was   unix.Termios
	bare  bool
	ended bool
}

// openKeyboard takes the terminal's lines and echo away. read must be called, and
// restore at the end.
func openKeyboard(f *os.File) (*keyboard, error) {
	k := &keyboard{fd: int(f.Fd()), signals: make(chan os.Signal, 1)} //nolint:gosec // a file descriptor is an int
	was, err := unix.IoctlGetTermios(k.fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("ask the terminal: %w", err)
	}
	k.was = *was
	signal.Notify(k.signals, unix.SIGTSTP, unix.SIGCONT, unix.SIGQUIT)
	if err := k.take(); err != nil {
		k.restore()
		return nil, err
	}
	return k, nil
}

// take makes keys come one by one. Ctrl-C and Ctrl-Z remain signals.
func (k *keyboard) take() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended || !k.foreground() {
		return errors.New("the terminal is not ours")
	}
	raw := k.was
	raw.Lflag &^= unix.ICANON | unix.ECHO
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(k.fd, unix.TCSETS, &raw); err != nil {
		return fmt.Errorf("set the terminal: %w", err)
	}
	k.bare = true
	return nil
}

// foreground: one in the background is stopped if it touches the terminal.
func (k *keyboard) foreground() bool {
	group, err := unix.IoctlGetInt(k.fd, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// give gives the terminal back as it was.
func (k *keyboard) give() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bare && k.foreground() {
		_ = unix.IoctlSetTermios(k.fd, unix.TCSETS, &k.was) // it may be gone
	}
	k.bare = false
}

// restore gives the terminal back for good.
func (k *keyboard) restore() {
	signal.Stop(k.signals)
	k.give()
	k.mu.Lock()
	k.ended = true
	k.mu.Unlock()
}

// read calls press with each key until ctx ends, and back when the program goes on
// after it was stopped.
func (k *keyboard) read(ctx context.Context, press func(byte), back func()) {
	wake, waker, err := os.Pipe()
	if err != nil {
		return // out of files: without keys, then
	}
	defer wake.Close()
	stop := context.AfterFunc(ctx, func() { _ = waker.Close() })
	defer stop()
	var signals sync.WaitGroup
	defer signals.Wait()
	signals.Go(func() { k.heed(ctx, back) })
	wait := []unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}} //nolint:gosec // file descriptors are small
	for {
		if _, err := unix.Poll(wait, -1); err != nil && !errors.Is(err, unix.EINTR) || ctx.Err() != nil {
			return
		} else if err != nil || wait[0].Revents == 0 {
			continue
		}
		if !k.foreground() {
			return // it was sent to the background, and keys are for others
		}
		var keys [16]byte
		n, err := unix.Read(k.fd, keys[:])
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil || n <= 0:
			return
		case keys[0] == '\x1b': // an arrow, say
			continue
		}
		for _, key := range keys[:n] {
			press(key)
		}
	}
}

// heed lets the signals have their usual effect, but on a terminal as it was.
func (k *keyboard) heed(ctx context.Context, back func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-k.signals:
			switch s {
			case unix.SIGTSTP:
				k.give()
				_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
			case unix.SIGCONT:
				_ = k.take() // in the background it goes on without keys
				back()
			case unix.SIGQUIT:
				k.give()
				signal.Reset(syscall.SIGQUIT)
				_ = unix.Kill(unix.Getpid(), unix.SIGQUIT)
			}
		}
	}
}
