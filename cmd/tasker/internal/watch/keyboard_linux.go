package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keyboard reads single keys from a terminal. Any signal that ends or stops the program,
// except SIGKILL, finds the terminal restored.
type keyboard struct {
	fd      int
	signals chan os.Signal

	mu       sync.Mutex
	original unix.Termios
	raw      bool
	// suspended is true from Ctrl-Z until the program continues.
	suspended bool
	ended     bool
}

// foregroundInterval is the interval between checks whether the program is in the foreground.
const foregroundInterval = 200 * time.Millisecond

// openKeyboard turns off line input and echo. read must be called, and restore at the
// end.
func openKeyboard(f *os.File) (*keyboard, error) {
	k := &keyboard{fd: int(f.Fd()), signals: make(chan os.Signal, 1)} //nolint:gosec // a file descriptor is an int
	original, err := unix.IoctlGetTermios(k.fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read the terminal's settings: %w", err)
	}
	k.original = *original
	signal.Notify(k.signals, unix.SIGTSTP, unix.SIGCONT, unix.SIGQUIT)
	if err := k.enterRaw(); err != nil {
		k.restore()
		return nil, err
	}
	return k, nil
}

// enterRaw makes the terminal deliver single keys. Ctrl-C and Ctrl-Z remain signals.
func (k *keyboard) enterRaw() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended || !k.isForeground() {
		return errors.New("the program is not in the foreground")
	}
	settings := k.original
	settings.Lflag &^= unix.ICANON | unix.ECHO
	settings.Cc[unix.VMIN], settings.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(k.fd, unix.TCSETS, &settings); err != nil {
		return fmt.Errorf("change the terminal's settings: %w", err)
	}
	k.raw = true
	return nil
}

// isForeground reports whether the program is in the foreground. In the background the
// kernel stops a program that changes the terminal.
func (k *keyboard) isForeground() bool {
	group, err := unix.IoctlGetInt(k.fd, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

func (k *keyboard) setSuspended(suspended bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.suspended = suspended
}

// leaveRaw restores the terminal's settings.
func (k *keyboard) leaveRaw() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.raw && k.isForeground() {
		_ = unix.IoctlSetTermios(k.fd, unix.TCSETS, &k.original) // the terminal may be closed
	}
	k.raw = false
}

// restore restores the terminal for good.
func (k *keyboard) restore() {
	signal.Stop(k.signals)
	k.leaveRaw()
	k.mu.Lock()
	k.ended = true
	k.mu.Unlock()
}

// read calls press with each key until ctx ends, and resumed when the program continues
// after a stop.
func (k *keyboard) read(ctx context.Context, press func(byte), resumed func()) {
	wakeReader, wakeWriter, err := os.Pipe()
	if err != nil {
		return // out of file descriptors: no keys
	}
	defer wakeReader.Close()
	stop := context.AfterFunc(ctx, func() { _ = wakeWriter.Close() })
	defer stop()
	var signals sync.WaitGroup
	defer signals.Wait()
	signals.Go(func() { k.handleSignals(ctx, resumed) })
	fds := []unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}, {Fd: int32(wakeReader.Fd()), Events: unix.POLLIN}} //nolint:gosec // file descriptors are small
	for {
		n, err := unix.Poll(fds, int(foregroundInterval.Milliseconds()))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR) || ctx.Err() != nil:
			return
		case err != nil:
			continue
		case n == 0:
			if k.regainRaw() {
				resumed()
			}
			continue
		case !k.isForeground(): // the keys are for another program, such as the shell
			select {
			case <-time.After(foregroundInterval):
			case <-ctx.Done():
				return
			}
			continue
		}
		keys, err := k.readKeys()
		if err != nil {
			return
		}
		for _, key := range keys {
			press(key)
		}
	}
}

// regainRaw makes the terminal deliver single keys again if a shell has changed its settings.
// A shell does so when it brings the program to the foreground, with or without a signal. It
// reports whether the settings had been changed.
func (k *keyboard) regainRaw() bool {
	k.mu.Lock()
	settings, err := unix.IoctlGetTermios(k.fd, unix.TCGETS)
	isRaw := err != nil || settings.Lflag&unix.ICANON == 0
	suspended := k.suspended
	k.mu.Unlock()
	return !isRaw && !suspended && k.enterRaw() == nil
}

// readKeys returns the keys that were pressed. An escape sequence, such as an arrow key, is
// no key.
func (k *keyboard) readKeys() ([]byte, error) {
	var keys [16]byte
	n, err := unix.Read(k.fd, keys[:])
	switch {
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read a key: %w", err)
	case n <= 0:
		return nil, io.EOF
	case keys[0] == '\x1b':
		return nil, nil
	}
	return keys[:n], nil
}

// handleSignals restores the terminal before a signal takes its usual effect.
func (k *keyboard) handleSignals(ctx context.Context, resumed func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-k.signals:
			switch s {
			case unix.SIGTSTP:
				k.setSuspended(true)
				k.leaveRaw()
				_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
			case unix.SIGCONT:
				k.setSuspended(false)
				_ = k.enterRaw() // in the background there are no keys
				resumed()
			case unix.SIGQUIT:
				k.leaveRaw()
				signal.Reset(syscall.SIGQUIT)
				_ = unix.Kill(unix.Getpid(), unix.SIGQUIT)
			}
		}
	}
}
