// Package sysservice is how a program is a service of the operating system: what
// it tells the service manager about itself, and how it is installed as one.
package sysservice

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifier tells systemd how the program stands; see sd_notify(3). Where the
// program was not started by a unit that wants to know (NOTIFY_SOCKET is not
// set), it does nothing. It may be used from several goroutines.
type Notifier struct {
	log *slog.Logger
}

// NewNotifier makes a Notifier. It logs what cannot be told, since there is
// nothing else to be done about it.
func NewNotifier(log *slog.Logger) *Notifier { return &Notifier{log: log} }

// Ready says that the start is complete.
func (n *Notifier) Ready() { n.tell(daemon.SdNotifyReady) }

// Waiting says that the start is complete but for what the program waits for. It
// is to be called at each try, as it feeds the watchdog too.
func (n *Notifier) Waiting(reason string) {
	n.tell(daemon.SdNotifyReady, daemon.SdNotifyWatchdog, statusLine("waiting for "+reason))
}

// Status is what `systemctl status` shows for a person.
func (n *Notifier) Status(status string) { n.tell(statusLine(status)) }

// Stopping says that the program has begun to stop.
func (n *Notifier) Stopping() { n.tell(daemon.SdNotifyStopping, statusLine("stopping")) }

// StoppingWith says so when ctx is done. Whoever calls release before that takes it
// back; after that, release returns when it has been said.
func (n *Notifier) StoppingWith(ctx context.Context) (release func()) {
	said := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(said)
		n.Stopping()
	})
	return func() {
		if !stop() {
			<-said
		}
	}
}

func (n *Notifier) tell(lines ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		n.log.Warn("the service manager cannot be told", "error", err)
	}
}

// statusLine keeps a status from smuggling in further assignments.
func statusLine(status string) string {
	return "STATUS=" + strings.ReplaceAll(status, "\n", "; ")
}

// Watchdog feeds the watchdog of the unit (WatchdogSec=) until stop is called,
// each time alive has returned true. An alive that returns false, or hangs,
// starves it: then systemd ends the program and starts it again. The context that
// alive is given ends when the watchdog would bark, or at stop, which waits for
// alive. Where no watchdog is set, alive is never called.
func (n *Notifier) Watchdog(alive func(context.Context) bool) (stop func()) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("the watchdog cannot be fed", "error", err)
	}
	if err != nil || limit == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.watch(ctx, limit, alive)
	}()
	return func() {
		cancel()
		<-done
	}
}

func (n *Notifier) watch(ctx context.Context, limit time.Duration, alive func(context.Context) bool) {
	// Three probes to the interval, so that one that is late does no harm.
	tick := time.NewTicker(limit / 3)
	defer tick.Stop()
	for ctx.Err() == nil {
		n.feed(ctx, limit, alive)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (n *Notifier) feed(ctx context.Context, limit time.Duration, alive func(context.Context) bool) {
	probe, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	switch {
	case alive(probe):
		n.tell(daemon.SdNotifyWatchdog)
	case ctx.Err() == nil:
		n.log.Error("no sign of life; the service manager will start the program again", "waited", limit)
	}
}
