package watch

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
	// tailInterval is the interval between requests for last lines of output.
	tailInterval = 2 * time.Second
	// noticeTime is how long an error of a key is shown.
	noticeTime = 8 * time.Second
	// quitHint is shown if there is room.
	quitHint = " (the task continues)"
)

// Controls complements the state of a rollout on a live screen: the last lines of output,
// an estimate, and keys. It requests nothing before start.
type Controls struct {
	client *client.Client
	in     io.Reader
	quit   func()

	ctx     context.Context // of the goroutines
	redraw  func()
	afresh  func()
	task    tasker.Task
	started sync.Once
	work    sync.WaitGroup

	keys atomic.Pointer[keyboard] // nil without a terminal to read from

	mu    sync.Mutex
	tails map[string]tail
	usual time.Duration
	// shown has the endpoints whose last lines are shown, with their bytes of output.
	shown map[string]int64
	// confirming reports whether the key y cancels the task.
	confirming bool
	notice     string
	until      time.Time
}

// tail is the last line of output of an endpoint after so many bytes.
type tail struct {
	bytes int64
	line  string
}

// init sets the context of the goroutines and the functions that draw the screen; afresh
// draws below what the terminal shows.
func (d *Controls) init(ctx context.Context, redraw, afresh func()) {
	d.ctx, d.redraw, d.afresh = ctx, redraw, afresh
	d.tails, d.shown = map[string]tail{}, map[string]int64{}
}

// start starts the goroutines and the keys, once.
func (d *Controls) start(t tasker.Task) {
	d.started.Do(func() {
		d.task = t
		d.spawn(d.estimate)
		d.spawn(d.followTails)
		f, ok := d.in.(*os.File)
		if !ok || !term.IsTerminal(int(f.Fd())) { //nolint:gosec // a file descriptor is an int
			return
		}
		k, err := openKeyboard(f)
		if err != nil {
			return // the screen works without keys
		}
		d.keys.Store(k)
		d.spawn(func() { k.read(d.ctx, d.press, d.afresh) })
	})
}

// spawn runs f in a goroutine that end waits for.
func (d *Controls) spawn(f func()) { d.work.Go(func() { d.guard(f) }) }

// guard restores the terminal if f panics.
func (d *Controls) guard(f func()) {
	panics := true
	defer func() {
		if panics {
			d.Restore()
		}
	}()
	f()
	panics = false
}

// Restore restores the terminal. It may be called at any time and repeatedly.
func (d *Controls) Restore() {
	if k := d.keys.Load(); k != nil {
		k.restore()
	}
}

// end waits for the goroutines, whose context must have ended. For a finished task it
// requests the last lines once more, since they stay on the screen.
func (d *Controls) end(finished bool) {
	d.work.Wait()
	d.Restore()
	if finished {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), tailInterval)
		defer cancel()
		d.requestTails(ctx)
	}
}

// board returns the frame of a state.
func (d *Controls) board(s client.State, colour bool) board {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := board{state: s, now: time.Now(), usual: d.usual, tails: map[string]string{}, screen: Screen{Colour: colour}}
	for name, t := range d.tails {
		b.tails[name] = t.line
	}
	if s.StreamErr != nil {
		b.footer = unreachableNotice
	}
	if d.keys.Load() != nil && d.ctx.Err() == nil {
		switch {
		case d.confirming:
			b.footer = "Cancel the task? y/n"
		case b.now.Before(d.until):
			b.footer = d.notice
		case s.StreamErr != nil:
		default:
			b.footer = keyHints(s.Task)
		}
	}
	d.shown = map[string]int64{}
	for _, r := range b.attention() {
		if len(d.shown) < maxTails && r.OutputBytes > 0 {
			d.shown[r.Endpoint] = r.OutputBytes
		}
	}
	return b
}

// keyHints returns the keys that are available in a state.
func keyHints(t tasker.Task) string {
	var list []string
	switch {
	case t.FinishedAt != nil || t.CancelRequestedAt != nil || t.Rollout.State.Ended() || t.Rollout.State == tasker.RolloutRollingBack:
	case t.Rollout.State == tasker.RolloutPaused:
		list = []string{"r resume", "c cancel"}
	default:
		list = []string{"p pause", "c cancel"}
	}
	return strings.Join(append(list, "q quit"), "  ") + quitHint
}

func (d *Controls) estimate() {
	usual, err := usualRunTime(d.ctx, d.client, d.task)
	if err != nil {
		return // no estimate is shown
	}
	d.mu.Lock()
	d.usual = usual
	d.mu.Unlock()
	d.redraw()
}

// followTails keeps the last lines of the shown endpoints current.
func (d *Controls) followTails() {
	ticker := time.NewTicker(tailInterval)
	defer ticker.Stop()
	for {
		if d.requestTails(d.ctx) {
			d.redraw()
		}
		select {
		case <-ticker.C:
		case <-d.ctx.Done():
			return
		}
	}
}

// requestTails requests the last lines that are shown and not current. It reports whether
// there were any.
func (d *Controls) requestTails(ctx context.Context) bool {
	d.mu.Lock()
	stale := maps.Clone(d.shown)
	for name, n := range stale {
		if d.tails[name].bytes == n {
			delete(stale, name)
		}
	}
	d.mu.Unlock()
	for name, n := range stale {
		var out bytes.Buffer
		if d.client.Output(ctx, d.task.Type, d.task.ID, name, &out) != nil {
			continue // it is requested again
		}
		d.mu.Lock()
		d.tails[name] = tail{n, lastLine(out.String())}
		d.mu.Unlock()
	}
	return len(stale) > 0
}

// lastLine returns the last line that is not empty.
func lastLine(s string) string {
	s = strings.TrimSpace(terminal.Strip(s))
	return strings.TrimSpace(terminal.OneLine(s[strings.LastIndexByte(s, '\n')+1:]))
}

// press handles a key.
func (d *Controls) press(key byte) {
	d.mu.Lock()
	confirming := d.confirming
	d.confirming, d.until = key == 'c' && !confirming, time.Time{}
	d.mu.Unlock()
	c := d.client
	switch {
	case confirming && (key == 'y' || key == 'Y'):
		d.call("cancel", c.Cancel)
	case confirming:
	case key == 'p':
		d.call("pause", c.Pause)
	case key == 'r':
		d.call("resume", c.Resume)
	case key == 'q':
		d.quit()
		return
	}
	d.redraw()
}

// call makes a call and shows its error.
func (d *Controls) call(what string, call func(ctx context.Context, taskType, ref string) (tasker.Task, error)) {
	d.notify("requesting "+what, time.Minute)
	d.redraw()
	if _, err := call(d.ctx, d.task.Type, d.task.ID); err != nil {
		d.notify(fmt.Sprintf("cannot %s the task: %v", what, err), noticeTime)
		return
	}
	d.notify("", 0) // the next state shows the result
}

// notify shows a notice in place of the keys for a time.
func (d *Controls) notify(notice string, duration time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notice, d.until = strings.Join(strings.Fields(terminal.OneLine(notice)), " "), time.Now().Add(duration)
}

// NewControls returns the controls of a live screen. in is the keyboard if it is a
// terminal; quit ends the watch. The caller must call Restore at the end.
func NewControls(c *client.Client, in io.Reader, quit func()) *Controls {
	return &Controls{client: c, in: in, quit: quit}
}
