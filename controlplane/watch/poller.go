package watch

import (
	"context"
	"sync"
	"time"
)

// PollerOptions configure NewPoller.
type PollerOptions struct {
	Fanout *Fanout
	// Interval is the pause between two reads of one task.
	Interval time.Duration
	// Version reads the version of a task.
	Version func(ctx context.Context, id string) (int64, error)
	// Silence reads which endpoints of a task are silent, as a text that changes with them.
	// It is called in each round whose number is a multiple of SilenceEvery.
	Silence      func(ctx context.Context, id string) (string, error)
	SilenceEvery int
}

// Poller wakes the watchers of a task when it has changed without a commit of this process:
// another control plane has written it, or an endpoint has become silent. All watchers of a
// task share its reads, so a quiet task costs the same for one watcher and for a thousand.
// Its methods may be called concurrently. A goroutine runs for each task that is watched.
type Poller struct {
	opts PollerOptions

	mu    sync.Mutex
	tasks map[string]*polled
}

// polled is a task that is watched.
type polled struct {
	watchers int
	stop     context.CancelFunc
	silence  int64 // the number of changes that were found
}

// NewPoller returns a Poller without watchers.
func NewPoller(o PollerOptions) *Poller {
	return &Poller{opts: o, tasks: map[string]*polled{}}
}

// Subscribe is like Fanout.Subscribe. version is the version of the task that the watcher
// has read; it is ignored if the task is already watched. So the watcher must read the task
// again after Subscribe.
func (p *Poller) Subscribe(id string, version int64) (wake <-chan struct{}, cancel func()) {
	wake, unsubscribe := p.opts.Fanout.Subscribe(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	task := p.tasks[id]
	if task == nil {
		ctx, stop := context.WithCancel(context.Background())
		task = &polled{stop: stop}
		p.tasks[id] = task
		go p.poll(ctx, id, task, version)
	}
	task.watchers++
	return wake, sync.OnceFunc(func() {
		unsubscribe()
		p.mu.Lock()
		defer p.mu.Unlock()
		if task.watchers--; task.watchers == 0 {
			task.stop()
			delete(p.tasks, id)
		}
	})
}

// SilenceChanges counts the changes of the set of silent endpoints. A watcher reads the
// silent endpoints again when the count has changed.
func (p *Poller) SilenceChanges(id string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if task := p.tasks[id]; task != nil {
		return task.silence
	}
	return 0
}

// poll reads a task until ctx is done.
func (p *Poller) poll(ctx context.Context, id string, task *polled, version int64) {
	tick := time.NewTicker(p.opts.Interval)
	defer tick.Stop()
	var silence string
	for round := 1; ; round++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		read, err := p.opts.Version(ctx, id)
		changed := err != nil || read != version // a watcher reports the error to its client
		if err == nil {
			version = read
		}
		if round%p.opts.SilenceEvery == 0 {
			if now, err := p.opts.Silence(ctx, id); err == nil && now != silence {
				silence, changed = now, true
				p.mu.Lock()
				task.silence++
				p.mu.Unlock()
			}
		}
		if changed && ctx.Err() == nil {
			p.opts.Fanout.Wake([]string{id})
		}
	}
}
