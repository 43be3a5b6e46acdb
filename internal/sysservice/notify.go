// Package sysservice runs a program as a service of systemd: it reports the state of the
// program to systemd, and installs the program as a unit. Both daemons use it.
package sysservice

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifier reports the state of the program to systemd; see sd_notify(3). It does nothing
// if NOTIFY_SOCKET is not set, because then systemd does not expect reports. It is safe for
// concurrent use.
type Notifier struct {
	log *slog.Logger
}

// NewNotifier returns a Notifier, which logs its errors.
func NewNotifier(log *slog.Logger) *Notifier { return &Notifier{log: log} }

// Ready reports that the start is complete.
func (n *Notifier) Ready() { n.notify(daemon.SdNotifyReady) }

// Waiting reports that the start is complete, except that the program waits for something.
// It must be called at each attempt, because it also resets the watchdog.
func (n *Notifier) Waiting(reason string) {
	n.notify(daemon.SdNotifyReady, daemon.SdNotifyWatchdog, statusLine("waiting for "+reason))
}

// Status sets the text that `systemctl status` shows.
func (n *Notifier) Status(status string) { n.notify(statusLine(status)) }

// Stopping reports that the program has begun to stop.
func (n *Notifier) Stopping() { n.notify(daemon.SdNotifyStopping, statusLine("stopping")) }

// StoppingWhenDone calls Stopping when ctx is done. Release cancels this; if ctx is done
// already, release returns after the report.
func (n *Notifier) StoppingWhenDone(ctx context.Context) (release func()) {
	reported := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(reported)
		n.Stopping()
	})
	return func() {
		if !stop() {
			<-reported
		}
	}
}

func (n *Notifier) notify(lines ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		n.log.Warn("cannot notify the service manager", "error", err)
	}
}

// statusLine returns the assignment of a status, which must not contain further ones.
func statusLine(status string) string {
	return "STATUS=" + strings.ReplaceAll(status, "\n", "; ")
}

// Watchdog resets the watchdog of the unit (WatchdogSec=) each time isAlive has returned
// true, until stop is called. If isAlive returns false or hangs, systemd restarts the
// program. The context of isAlive is done when the watchdog expires, or when stop is called;
// stop waits for isAlive. Without a watchdog, isAlive is never called.
func (n *Notifier) Watchdog(isAlive func(context.Context) bool) (stop func()) {
	timeout, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("cannot reset the watchdog", "error", err)
	}
	if err != nil || timeout == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.watch(ctx, timeout, isAlive)
	}()
	return func() {
		cancel()
		<-done
	}
}

func (n *Notifier) watch(ctx context.Context, timeout time.Duration, isAlive func(context.Context) bool) {
	// Three probes in each interval, so that a late one does no harm.
	tick := time.NewTicker(timeout / 3)
	defer tick.Stop()
	for ctx.Err() == nil {
		n.probe(ctx, timeout, isAlive)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// probe calls isAlive once, and resets the watchdog if it returns true.
func (n *Notifier) probe(ctx context.Context, timeout time.Duration, isAlive func(context.Context) bool) {
	probeCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case isAlive(probeCtx):
		n.notify(daemon.SdNotifyWatchdog)
	case ctx.Err() == nil:
		n.log.Error("the program does not respond; the service manager will restart it", "waited", timeout)
	}
}
