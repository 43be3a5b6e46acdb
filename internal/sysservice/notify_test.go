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

// listen is systemd's end of NOTIFY_SOCKET. Like systemd it always reads: who tells
// something is held up when a few of its datagrams wait. Tests that use it set
// environment variables, so they do not run in parallel.
func listen(t *testing.T) func() string {
	t.Helper()
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 10_000)
	go func() {
		defer close(told)
		for buf := make([]byte, 4096); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			told <- string(buf[:n])
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		for range told { // until it is closed
		}
	})
	t.Setenv("NOTIFY_SOCKET", address.Name)
	return func() string {
		t.Helper()
		select {
		case s := <-told:
			return s
		case <-time.After(60 * time.Second):
			t.Fatal("nothing was told")
			return ""
		}
	}
}

func logger(t *testing.T) (*slog.Logger, *bytes.Buffer) {
	t.Helper()
	var buf bytes.Buffer
	return slog.New(slog.NewTextHandler(&buf, nil)), &buf
}

func TestNotifierTellsSystemd(t *testing.T) {
	told := listen(t)
	log, said := logger(t)
	n := sysservice.NewNotifier(log)
	for _, c := range []struct {
		tell func()
		want string
	}{
		{n.Ready, "READY=1"},
		{func() { n.Waiting("the database") }, "READY=1\nWATCHDOG=1\nSTATUS=waiting for the database"},
		{func() { n.Status("connected") }, "STATUS=connected"},
		{func() { n.Status("away: no route\nREADY=1") }, "STATUS=away: no route; READY=1"},
		{n.Stopping, "STOPPING=1\nSTATUS=stopping"},
	} {
		c.tell()
		if got := told(); got != c.want {
			t.Errorf("told %q, want %q", got, c.want)
		}
	}
	if said.Len() > 0 {
		t.Errorf("logged %s", said)
	}
}

// A program that ends as soon as it is told to has said that it stops.
func TestNotifierSaysThatItStopsBeforeItEnds(t *testing.T) {
	told := listen(t)
	log, _ := logger(t)
	n := sysservice.NewNotifier(log)
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		release := n.StoppingWith(ctx)
		cancel()
		release()
		n.Ready() // the last that was said
		for _, want := range []string{"STOPPING=1\nSTATUS=stopping", "READY=1"} {
			if got := told(); got != want {
				t.Fatalf("told %q, want %q", got, want)
			}
		}
	}
	n.StoppingWith(t.Context())()
	n.Ready()
	if got := told(); got != "READY=1" {
		t.Errorf("one that goes on told %q", got)
	}
}

func TestNotifierWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	log, said := logger(t)
	n := sysservice.NewNotifier(log)
	n.Ready()
	n.Stopping()
	n.Watchdog(unwanted(t))()
	if said.Len() > 0 {
		t.Errorf("logged %q", said)
	}
}

func TestNotifierLogsWhatCannotBeTold(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody-listens"))
	log, said := logger(t)
	sysservice.NewNotifier(log).Ready()
	if !strings.Contains(said.String(), "cannot be told") {
		t.Errorf("logged %q", said)
	}
}

// A program that gives no sign of life does not feed the watchdog, one that does
// feeds it again and again.
func TestWatchdogIsFedByLifeOnly(t *testing.T) {
	told := listen(t)
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("WATCHDOG_USEC", "30000")
	log, said := logger(t)
	n := sysservice.NewNotifier(log)
	asked := 0
	stop := n.Watchdog(func(probe context.Context) bool {
		switch asked++; asked {
		case 1:
			return false
		case 2: // hangs
			<-probe.Done()
			return false
		}
		n.Status("probe " + strconv.Itoa(asked))
		return true
	})
	for _, want := range []string{"STATUS=probe 3", "WATCHDOG=1", "STATUS=probe 4", "WATCHDOG=1"} {
		if got := told(); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	stop()
	if n := strings.Count(said.String(), "no sign of life"); n != 2 {
		t.Errorf("%d silences logged, want 2:\n%s", n, said)
	}
}

func TestWatchdogOfAnotherProcess(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "30000")
	t.Setenv("WATCHDOG_PID", "1")
	log, _ := logger(t)
	sysservice.NewNotifier(log).Watchdog(unwanted(t))()
}

func TestWatchdogOfNonsense(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "soon")
	log, said := logger(t)
	sysservice.NewNotifier(log).Watchdog(unwanted(t))()
	if !strings.Contains(said.String(), "WATCHDOG_USEC") {
		t.Errorf("logged %q", said)
	}
}

// unwanted is a probe that must not be made.
func unwanted(t *testing.T) func(context.Context) bool {
	t.Helper()
	return func(context.Context) bool {
		t.Error("asked for a sign of life that nobody wants")
		return true
	}
}
