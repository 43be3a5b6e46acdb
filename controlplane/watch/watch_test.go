package watch_test

import (
	"strconv"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker/controlplane/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func woken(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestWakeReachesOnlyWatchersOfTheTask(t *testing.T) {
	t.Parallel()
	f := watch.NewFanout()
	a1, cancelA1 := f.Subscribe("a")
	a2, cancelA2 := f.Subscribe("a")
	b, cancelB := f.Subscribe("b")
	defer cancelA1()
	defer cancelA2()
	defer cancelB()

	f.Wake([]string{"a", "unwatched"})
	if !woken(a1) || !woken(a2) {
		t.Error("a watcher of the published task was not woken")
	}
	if woken(b) {
		t.Error("a watcher of another task was woken")
	}
}

func TestWakeUpsAreCoalesced(t *testing.T) {
	t.Parallel()
	f := watch.NewFanout()
	c, cancel := f.Subscribe("a")
	defer cancel()
	for range 1000 {
		f.Wake([]string{"a"})
	}
	if !woken(c) {
		t.Fatal("not woken")
	}
	if woken(c) {
		t.Error("woken twice for events before one read")
	}
	f.Wake([]string{"a"})
	if !woken(c) {
		t.Error("not woken by an event after the read")
	}
}

func TestCancelEndsSubscription(t *testing.T) {
	t.Parallel()
	f := watch.NewFanout()
	cancelled, cancel := f.Subscribe("a")
	remaining, cancelRemaining := f.Subscribe("a")
	cancel()
	cancel()
	f.Wake([]string{"a"})
	if woken(cancelled) {
		t.Error("woken after cancel")
	}
	if !woken(remaining) {
		t.Error("a cancel ended another subscription")
	}
	cancelRemaining()
	if n := f.Watchers(); n != 0 {
		t.Errorf("%d watchers are left after every cancel", n)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	f := watch.NewFanout()
	var wg sync.WaitGroup
	for i := range 50 {
		id := strconv.Itoa(i % 5)
		wg.Go(func() {
			c, cancel := f.Subscribe(id)
			defer cancel()
			f.Wake([]string{id})
			<-c
		})
	}
	wg.Wait()
	if n := f.Watchers(); n != 0 {
		t.Errorf("%d watchers are left", n)
	}
}
