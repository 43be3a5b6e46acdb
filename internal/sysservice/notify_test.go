package sysservice_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker/internal/sysservice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen acts as systemd at NOTIFY_SOCKET, and returns a function that receives the next
// message. Like systemd it always reads, because a few unread datagrams block the sender.
// Tests that use it set environment variables, so they do not run in parallel.
func listen(t *testing.T) func() string {
	t.Helper()
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	messages := make(chan string, 10_000)
	go func() {
		defer close(messages)
		for buf := make([]byte, 4096); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			messages <- string(buf[:n])
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		for range messages { // Until it is closed.
		}
	})
	t.Setenv("NOTIFY_SOCKET", address.Name)
	return func() string {
		t.Helper()
		select {
		case s := <-messages:
			return s
		case <-time.After(60 * time.Second):
			t.Fatal("no message was sent")
			return ""
		}
	}
}

func logger(t *testing.T) (*slog.Logger, *bytes.Buffer) {
	t.Helper()
	var buf bytes.Buffer
	return slog.New(slog.NewTextHandler(&buf, nil)), &buf
}

func TestNotifier(t *testing.T) {
	receive := listen(t)
	log, logged := logger(t)
	n := sysservice.NewNotifier(log)
	for _, c := range []struct {
		notify func()
		want   string
	}{
		{n.Ready, "READY=1"},
		{func() { n.Waiting("the database") }, "READY=1\nWATCHDOG=1\nSTATUS=waiting for the database"},
		{func() { n.Status("connected") }, "STATUS=connected"},
		{func() { n.Status("away: no route\nREADY=1") }, "STATUS=away: no route; READY=1"},
		{n.Stopping, "STOPPING=1\nSTATUS=stopping"},
	} {
		c.notify()
		if got := receive(); got != c.want {
			t.Errorf("received %q, want %q", got, c.want)
		}
	}
	if logged.Len() > 0 {
		t.Errorf("logged %s", logged)
	}
}

// A program that stops at once has reported that it stops.
func TestStoppingWhenDone(t *testing.T) {
	receive := listen(t)
	log, _ := logger(t)
	n := sysservice.NewNotifier(log)
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		release := n.StoppingWhenDone(ctx)
		cancel()
		release()
		n.Ready() // the last message
		for _, want := range []string{"STOPPING=1\nSTATUS=stopping", "READY=1"} {
			if got := receive(); got != want {
				t.Fatalf("received %q, want %q", got, want)
			}
		}
	}
	n.StoppingWhenDone(t.Context())()
	n.Ready()
	if got := receive(); got != "READY=1" {
		t.Errorf("a program that continues sent %q", got)
	}
}

func TestNotifierWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	log, logged := logger(t)
	n := sysservice.NewNotifier(log)
	n.Ready()
	n.Stopping()
	n.Watchdog(unexpectedProbe(t))()
	if logged.Len() > 0 {
		t.Errorf("logged %q", logged)
	}
}

func TestNotifierLogsErrors(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "no-socket"))
	log, logged := logger(t)
	sysservice.NewNotifier(log).Ready()
	if !strings.Contains(logged.String(), "cannot notify") {
		t.Errorf("logged %q", logged)
	}
}

// A program resets the watchdog only while it is alive.
func TestWatchdog(t *testing.T) {
	receive := listen(t)
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("WATCHDOG_USEC", "30000")
	log, logged := logger(t)
	n := sysservice.NewNotifier(log)
	calls := 0
	stop := n.Watchdog(func(probe context.Context) bool {
		switch calls++; calls {
		case 1:
			return false
		case 2: // It hangs.
			<-probe.Done()
			return false
		}
		n.Status("probe " + strconv.Itoa(calls))
		return true
	})
	for _, want := range []string{"STATUS=probe 3", "WATCHDOG=1", "STATUS=probe 4", "WATCHDOG=1"} {
		if got := receive(); got != want {
			t.Errorf("received %q, want %q", got, want)
		}
	}
	stop()
	if n := strings.Count(logged.String(), "does not respond"); n != 2 {
		t.Errorf("%d failures logged, want 2:\n%s", n, logged)
	}
}

func TestWatchdogOfAnotherProcess(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "30000")
	t.Setenv("WATCHDOG_PID", "1")
	log, _ := logger(t)
	sysservice.NewNotifier(log).Watchdog(unexpectedProbe(t))()
}

func TestWatchdogWithInvalidTimeout(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "soon")
	log, logged := logger(t)
	sysservice.NewNotifier(log).Watchdog(unexpectedProbe(t))()
	if !strings.Contains(logged.String(), "WATCHDOG_USEC") {
		t.Errorf("logged %q", logged)
	}
}

// unexpectedProbe is a probe that must not be called.
func unexpectedProbe(t *testing.T) func(context.Context) bool {
	t.Helper()
	return func(context.Context) bool {
		t.Error("the probe was called")
		return true
	}
}
