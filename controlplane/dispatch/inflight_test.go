package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/dispatch"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// assignments returns n claims of assignments that expire after this time.
func assignments(n int, lifetime time.Duration) []store.Claim {
	list := claims(n)
	for i := range list {
		list[i].AttemptKey = store.AttemptKey{TaskID: "t", Endpoint: fmt.Sprint("lb-", i), Attempt: 1}
		list[i].Order = tasker.Order{Assignment: &tasker.Assignment{}, Expires: time.Now().Add(lifetime)}
	}
	return list
}

// runReporting starts a Dispatcher in the bubble of t whose orders wait for reports.
func runReporting(t *testing.T, o *outbox, send func(*dispatch.Dispatcher, []tasker.Order)) *dispatch.Dispatcher {
	t.Helper()
	var d *dispatch.Dispatcher
	d = dispatch.New(dispatch.Options{
		Outbox: o, Log: slog.New(slog.DiscardHandler), ReportWait: 500 * time.Millisecond,
		Hub: sender(func(orders []tasker.Order) error { send(d, orders); return nil }),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
	synctest.Wait()
	return d
}

func sleep(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the bubble's time
	synctest.Wait()
}

// A response that is reported on before or soon after its order was sent is not
// recorded as sent.
func TestReportedIsNotMarkedSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		list := assignments(9, time.Hour)
		o := &outbox{due: list}
		d := runReporting(t, o, func(d *dispatch.Dispatcher, _ []tasker.Order) {
			d.Reported([]store.AttemptKey{list[0].AttemptKey})
		})
		for _, c := range list[1:8] { // longer in total than one wait: each report prolongs it
			sleep(400 * time.Millisecond)
			d.Reported([]store.AttemptKey{c.AttemptKey})
		}
		if sent, _, _ := o.counts(); sent != 0 {
			t.Errorf("%d recorded as sent while reports arrive", sent)
		}
		sleep(2 * time.Second)
		if sent, _, _ := o.counts(); sent != 1 || o.sent[0].Endpoint != list[8].Endpoint {
			t.Errorf("recorded as sent: %+v, want the one without a report", o.sent)
		}
	})
}

// Reports prolong the wait eight times at most.
func TestWaitForReportsIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		list := assignments(30, time.Hour)
		o := &outbox{due: list}
		d := runReporting(t, o, func(*dispatch.Dispatcher, []tasker.Order) {})
		for _, c := range list[:17] {
			d.Reported([]store.AttemptKey{c.AttemptKey})
			sleep(250 * time.Millisecond)
		}
		if sent, _, _ := o.counts(); sent == 0 {
			t.Error("nothing is recorded as sent after eight waits")
		}
	})
}

// An order is recorded as sent without a wait if no report can follow in time.
func TestMarkedSentAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		soon := assignments(1, 7*time.Second)
		broadcast := assignments(1, time.Hour)
		broadcast[0].Endpoint = ""
		cancel := assignments(1, time.Hour)
		cancel[0].Cancel, cancel[0].Order.Assignment, cancel[0].Order.Cancel = true, nil, &tasker.Cancel{}
		late := assignments(2, time.Hour)[1:]
		o := &outbox{due: append(append(soon, broadcast...), append(cancel, late...)...)}
		runReporting(t, o, func(*dispatch.Dispatcher, []tasker.Order) {})
		if sent, _, _ := o.counts(); sent != 3 {
			t.Errorf("%d recorded as sent at once, want 3: %+v", sent, o.sent)
		}
		sleep(time.Second)
		if sent, _, _ := o.counts(); sent != 4 {
			t.Errorf("%d recorded as sent after the wait, want 4", sent)
		}
	})
}
