package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

const (
	// tailsEvery is how often last lines are asked for.
	tailsEvery = 2 * time.Second
	// noticeFor is how long it is said that a key was of no use.
	noticeFor = 8 * time.Second
	// goesOn is said where there is room.
	goesOn = " (the task goes on)"
)

// desk is what somebody who watches a rollout has beside its state: the last lines
// that endpoints printed, an estimate, and keys to steer it by. It asks for
// nothing before sit.
type desk struct {
	client *client.Client
	in     io.Reader
	quit   func()

	ctx    context.Context // that of its goroutines
	redraw func()
	afresh func()
	task   tasker.Task
	sits   sync.Once
	work   sync.WaitGroup

	keys atomic.Pointer[keyboard] // nil without a terminal to read from

	mu    sync.Mutex
	tails map[string]tail
	usual time.Duration
	// shown are the endpoints whose last lines are shown.
	shown map[string]int64
	// asking: a y cancels the task.
	asking bool
	notice string
	until  time.Time
}

// tail is the last line that an endpoint had printed when it had printed so many
// bytes.
type tail struct {
	bytes int64
	line  string
}

// begin has it ask for nothing beyond ctx. redraw draws the screen, afresh where
// something else may be on it.
func (d *desk) begin(ctx context.Context, redraw, afresh func()) {
	d.ctx, d.redraw, d.afresh = ctx, redraw, afresh
	d.tails, d.shown = map[string]tail{}, map[string]int64{}
}

// sit begins, if it has not begun.
func (d *desk) sit(t tasker.Task) {
	d.sits.Do(func() {
		d.task = t
		d.spawn(d.estimate)
		d.spawn(d.follow)
		f, ok := d.in.(*os.File)
		if !ok || !term.IsTerminal(int(f.Fd())) { //nolint:gosec // a file descriptor is an int
			return
		}
		k, err := openKeyboard(f)
		if err != nil {
			return // what can be seen can be seen without it
		}
		d.keys.Store(k)
		d.spawn(func() { k.read(d.ctx, d.press, d.afresh) })
	})
}

// spawn runs f until end waits for it.
func (d *desk) spawn(f func()) { d.work.Go(func() { d.guard(f) }) }

// guard gives the terminal back if f panics.
func (d *desk) guard(f func()) {
	panics := true
	defer func() {
		if panics {
			d.restore()
		}
	}()
	f()
	panics = false
}

// restore gives the terminal back as it was. It can be called at any time, and
// again.
func (d *desk) restore() {
	if k := d.keys.Load(); k != nil {
		k.restore()
	}
}

// end waits for everything; its context must have ended. What a task that is over
// printed last stays on the screen, so that is asked for once more.
func (d *desk) end(over bool) {
	d.work.Wait()
	d.restore()
	if over {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), tailsEvery)
		defer cancel()
		d.askForTails(ctx)
	}
}

// board is what is to be drawn of a state.
func (d *desk) board(s client.State, colour bool) board {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := board{state: s, now: time.Now(), usual: d.usual, tails: map[string]string{}, screen: screen{colour: colour}}
	for name, t := range d.tails {
		b.tails[name] = t.line
	}
	if s.StreamErr != nil {
		b.foot = unheard
	}
	if d.keys.Load() != nil && d.ctx.Err() == nil {
		switch {
		case d.asking:
			b.foot = "Cancel the task? y/n"
		case b.now.Before(d.until):
			b.foot = d.notice
		case s.StreamErr != nil:
		default:
			b.foot = keysOf(s.Task)
		}
	}
	d.shown = map[string]int64{}
	for _, r := range b.attention() {
		if len(d.shown) < mostTails && r.OutputBytes > 0 {
			d.shown[r.Endpoint] = r.OutputBytes
		}
	}
	return b
}

// keysOf are the keys that do something now.
func keysOf(t tasker.Task) string {
	var list []string
	switch {
	case t.FinishedAt != nil || t.CancelRequestedAt != nil || t.Rollout.State.Ended() || t.Rollout.State == tasker.RolloutRollingBack:
	case t.Rollout.State == tasker.RolloutPaused:
		list = []string{"r resume", "c cancel"}
	default:
		list = []string{"p pause", "c cancel"}
	}
	return strings.Join(append(list, "q quit"), "  ") + goesOn
}

func (d *desk) estimate() {
	usual, err := usually(d.ctx, d.client, d.task)
	if err != nil {
		return // then nothing is said of it
	}
	d.mu.Lock()
	d.usual = usual
	d.mu.Unlock()
	d.redraw()
}

// follow keeps the last lines of the endpoints that are shown.
func (d *desk) follow() {
	ticker := time.NewTicker(tailsEvery)
	defer ticker.Stop()
	for {
		if d.askForTails(d.ctx) {
			d.redraw()
		}
		select {
		case <-ticker.C:
		case <-d.ctx.Done():
			return
		}
	}
}

// askForTails asks for the last lines that are shown and not known yet, and says
// whether there were any.
func (d *desk) askForTails(ctx context.Context) bool {
	d.mu.Lock()
	ask := maps.Clone(d.shown)
	for name, n := range ask {
		if d.tails[name].bytes == n {
			delete(ask, name)
		}
	}
	d.mu.Unlock()
	for name, n := range ask {
		var out bytes.Buffer
		if d.client.Output(ctx, d.task.Type, d.task.ID, name, &out) != nil {
			continue // it is asked for again
		}
		d.mu.Lock()
		d.tails[name] = tail{n, lastLine(out.String())}
		d.mu.Unlock()
	}
	return len(ask) > 0
}

// lastLine is the last line that is not empty.
func lastLine(s string) string {
	s = strings.TrimSpace(terminal.Strip(s))
	return strings.TrimSpace(plain(s[strings.LastIndexByte(s, '\n')+1:]))
}

// press does what a key asks for.
func (d *desk) press(key byte) {
	d.mu.Lock()
	asked := d.asking
	d.asking, d.until = key == 'c' && !asked, time.Time{}
	d.mu.Unlock()
	c := d.client
	switch {
	case asked && (key == 'y' || key == 'Y'):
		d.steer("cancel", c.Cancel)
	case asked:
	case key == 'p':
		d.steer("pause", c.Pause)
	case key == 'r':
		d.steer("resume", c.Resume)
	case key == 'q':
		d.quit()
		return
	}
	d.redraw()
}

// steer makes a call and says what became of it.
func (d *desk) steer(what string, call func(ctx context.Context, taskType, ref string) (tasker.Task, error)) {
	d.say("asking to "+what, time.Minute)
	d.redraw()
	if _, err := call(d.ctx, d.task.Type, d.task.ID); err != nil {
		d.say(fmt.Sprintf("cannot %s it: %v", what, err), noticeFor)
		return
	}
	d.say("", 0) // the state shows it
}

// say says something in place of the keys for a time.
func (d *desk) say(notice string, long time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notice, d.until = strings.Join(strings.Fields(plain(notice)), " "), time.Now().Add(long)
}
