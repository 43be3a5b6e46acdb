package watch_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/watch"
)

// database counts the reads of one task.
type database struct {
	version       atomic.Int64
	silent        atomic.Value
	err           atomic.Value
	reads, checks atomic.Int64
}

func (d *database) poller(fanout *watch.Fanout) *watch.Poller {
	d.silent.Store("")
	return watch.NewPoller(watch.PollerOptions{
		Fanout: fanout, Interval: time.Second, SilenceEvery: 5,
		Version: func(context.Context, string) (int64, error) {
			d.reads.Add(1)
			if err, _ := d.err.Load().(error); err != nil {
				return 0, err
			}
			return d.version.Load(), nil
		},
		Silence: func(context.Context, string) (string, error) {
			d.checks.Add(1)
			return d.silent.Load().(string), nil //nolint:forcetypeassert,errcheck // only strings are stored
		},
	})
}

// countWoken counts the watchers that a wake-up waits for, and takes it.
func countWoken(watchers []<-chan struct{}) int {
	n := 0
	for _, w := range watchers {
		select {
		case <-w:
			n++
		default:
		}
	}
	return n
}

// advance lets time pass.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestPollerReadsOncePerTask(t *testing.T) {
	for _, watchers := range []int{1, 1000} {
		synctest.Test(t, func(t *testing.T) {
			d, fanout := &database{}, watch.NewFanout()
			p := d.poller(fanout)
			var wakes []<-chan struct{}
			var cancels []func()
			for range watchers {
				wake, cancel := p.Subscribe("task", 0)
				wakes, cancels = append(wakes, wake), append(cancels, cancel)
			}
			advance(10*time.Second + time.Millisecond)
			if d.reads.Load() != 10 || d.checks.Load() != 2 {
				t.Errorf("%d watchers: %d reads and %d checks for silence in 10 s, want 10 and 2", watchers, d.reads.Load(), d.checks.Load())
			}
			if n := countWoken(wakes); n != 0 {
				t.Errorf("%d of %d watchers of a quiet task were woken", n, watchers)
			}

			d.version.Store(1)
			advance(time.Second)
			if n := countWoken(wakes); n != watchers {
				t.Errorf("a change woke %d of %d watchers", n, watchers)
			}
			for _, cancel := range cancels {
				cancel()
				cancel()
			}
			before := d.reads.Load()
			advance(10 * time.Second)
			if d.reads.Load() != before || fanout.Watchers() != 0 {
				t.Errorf("%d reads without a watcher, %d watchers", d.reads.Load()-before, fanout.Watchers())
			}
		})
	}
}

func TestPollerWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &database{}
		p := d.poller(watch.NewFanout())
		wake, cancel := p.Subscribe("task", 0)
		defer cancel()
		after := func(d time.Duration) int {
			advance(d)
			return countWoken([]<-chan struct{}{wake})
		}
		d.silent.Store("web-1")
		if before := p.SilenceChanges("task"); after(5*time.Second+time.Millisecond) != 1 || p.SilenceChanges("task") != before+1 {
			t.Error("a silent endpoint woke nobody")
		}
		if after(10*time.Second) != 0 {
			t.Error("an endpoint that stays silent woke the watcher")
		}
		d.err.Store(errors.New("no database"))
		if after(time.Second) != 1 {
			t.Error("an error woke nobody")
		}
	})
}
