package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/before"
)

// Name is the handler's name.
const Name = "service"

// Options are what the agent decides.
type Options struct {
	// Allow are the units that may be touched; none by default.
	Allow Allow
	// Before keeps how units were.
	Before *before.Records
	Log    *slog.Logger
}

// Payload is what a task asks for.
type Payload struct {
	Unit string `json:"unit"`
	Verb verb   `json:"verb"`
	// Now: enable also starts, and disable also stops.
	Now bool `json:"now,omitempty"`
	// Settle is DefaultSettle if nil.
	Settle *tasker.Duration `json:"settle,omitempty"`
}

// Outcome is the result's value.
type Outcome struct {
	Unit string `json:"unit"`
	// Plan: it is what would be.
	Plan    bool  `json:"plan,omitempty"`
	Changed bool  `json:"changed"`
	From    State `json:"from"`
	To      State `json:"to"`
	// Journal is the last lines of the unit's journal where it has failed.
	Journal []string `json:"journal,omitempty"`
	// Reason says why there was nothing to undo.
	Reason string `json:"reason,omitempty"`
}

// maxSettle bounds Payload.Settle.
const maxSettle = 10 * time.Minute

// Info describes the handler.
func Info() handlers.Info {
	return handlers.Info{
		Name:     Name,
		Summary:  "Starts, stops, restarts, reloads, enables or disables a unit of systemd, or says how it is.",
		Restart:  handlers.RestartResume,
		Detached: true,
		Plans:    true,
		Undoes:   true,
		Schema: []byte(`{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "unit": {
      "description": "the unit; .service is added where the name has no suffix",
      "type": "string", "pattern": "^[A-Za-z0-9:_.\\\\][A-Za-z0-9:_.\\\\@-]*$", "maxLength": 240
    },
    "verb": {
      "description": "what is to be done with it, as systemctl has it",
      "type": "string", "enum": ["start", "stop", "restart", "reload", "enable", "disable", "status"]
    },
    "now": {"description": "with enable, start it too; with disable, stop it too", "type": "boolean"},
    "settle": {
      "description": "how long it must stay active after a start, a restart or a reload, like 10s; 2s if left out, 10m at most",
      "type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m))+$", "maxLength": 20
    }
  },
  "required": ["unit", "verb"],
  "additionalProperties": false
}`),
	}
}

// New makes the handler. The error names the entry of the allow-list that is wrong.
func New(o Options) (handlers.Handler, error) {
	if err := o.Allow.names().Check(); err != nil {
		return nil, err
	}
	h := handler(o)
	return handlers.Typed(Info(), func(ctx context.Context, p Payload, call handlers.Call) (handlers.Result, error) {
		result, err := h.handle(ctx, p, call)
		var reject *handlers.RejectError
		if call.Resumed && errors.As(err, &reject) {
			err = errors.New(reject.Reason) // An earlier process may have begun.
		}
		return result, err
	}), nil
}

type handler Options

// work is one call of the handler.
type work struct {
	*conn
	before *before.Records
	log    *slog.Logger
	call   handlers.Call
	unit   string
	settle time.Duration
	now    unitState
	out    Outcome
}

func (h handler) handle(ctx context.Context, p Payload, call handlers.Call) (handlers.Result, error) {
	unit := Complete(p.Unit)
	if err := h.check(unit, p); err != nil {
		return handlers.Result{}, err
	}
	c, err := connect(ctx)
	if err != nil {
		return handlers.Result{}, err
	}
	defer c.close()
	w := &work{conn: c, before: h.Before, log: h.Log, call: call, unit: unit, settle: DefaultSettle}
	if p.Settle != nil {
		w.settle = p.Settle.D()
	}
	// Also when ctx is done: what an earlier process has asked for is to be ended.
	if w.now, err = c.show(context.WithoutCancel(ctx), unit); err != nil {
		return handlers.Result{}, err
	}
	w.out = Outcome{Unit: unit, Plan: call.Action == tasker.Plan, From: w.now.State, To: w.now.State}
	switch {
	case w.now.load != "loaded":
		return handlers.Result{}, handlers.Reject("%s: %s", unit, w.now.unusable())
	case p.Verb == status:
	case call.Action == tasker.Undo:
		err = w.undo(ctx)
	default:
		err = w.perform(ctx, p)
	}
	var reject *handlers.RejectError
	if errors.As(err, &reject) {
		return handlers.Result{}, err
	}
	return handlers.Result{Value: w.out}, err
}

// check rejects what is not to be tried.
func (h handler) check(unit string, p Payload) error {
	if err := h.Allow.Allowed(unit); err != nil {
		return err
	}
	switch {
	case strings.Contains(unit, "@."):
		return handlers.Reject("payload.unit: %s is a template; name an instance of it, like %s", unit, strings.Replace(unit, "@.", "@1.", 1))
	case p.Now && p.Verb != enable && p.Verb != disable:
		return handlers.Reject("payload.now goes with enable and disable only")
	case p.Settle != nil && p.Settle.D() > maxSettle:
		return handlers.Reject("payload.settle: %s is more than %s", p.Settle, maxSettle)
	}
	// As sd_booted(3) does.
	if _, err := os.Lstat("/run/systemd/system"); err != nil {
		return handlers.Reject("%s cannot be touched: systemd is not running on this server", unit)
	}
	return nil
}

// perform does what a payload says, or says what that would change.
func (w *work) perform(ctx context.Context, p Payload) error {
	steps := []verb{p.Verb}
	switch {
	case p.Now && p.Verb == enable:
		steps = append(steps, start)
	case p.Now:
		steps = append(steps, stop)
	}
	for _, v := range steps {
		if err := w.refuse(ctx, v); err != nil {
			return err
		}
	}
	if w.call.Action == tasker.Plan {
		for _, v := range w.needed(steps) {
			w.out.Changed = true
			w.out.To = v.leads(w.out.To)
		}
		return nil
	}
	if w.call.Resumed {
		steps = w.resume(steps)
	}
	if steps = w.needed(steps); len(steps) == 0 && !w.call.Resumed {
		return nil
	}
	record := wasState{Unit: w.unit, Active: w.now.active(), Enabled: w.now.Enabled}
	if err := w.before.Keep(w.call.TaskID, record); err != nil {
		return err
	}
	return w.run(ctx, steps)
}

// refuse rejects what systemd would refuse, or what would end the agent.
func (w *work) refuse(ctx context.Context, v verb) error {
	s := w.now
	switch v {
	case start, restart:
		if !s.canStart {
			return handlers.Reject("%s cannot be %s by hand: its file says RefuseManualStart=, or it is of a kind that cannot", w.unit, v.done())
		}
	case stop:
		if !s.canStop {
			return handlers.Reject("%s cannot be stopped by hand: its file says RefuseManualStop=, or systemd needs it", w.unit)
		}
		if own, err := w.GetUnitNameByPID(ctx, uint32(os.Getpid())); err == nil && own == w.unit { //nolint:gosec // a PID is no more
			return handlers.Reject("%s is this agent: it could report nothing of its end, and could not be started by a task again", w.unit)
		}
	case reload:
		if !s.reload {
			return handlers.Reject("%s cannot be reloaded: its file has no ExecReload=; restart it", w.unit)
		}
		if !s.active() && !w.call.Resumed {
			return handlers.Reject("%s is %s: there is nothing to reload; start it", w.unit, s.State)
		}
	case enable, disable:
		switch s.Enabled {
		case "enabled", "enabled-runtime", "disabled", "indirect", "linked", "linked-runtime":
		default:
			return handlers.Reject("%s cannot be %s: systemd calls its file %q; one that is to be started at boot has an [Install] section", w.unit, v.done(), s.Enabled)
		}
	}
	return nil
}

// needed leaves out the steps that would change nothing.
func (w *work) needed(steps []verb) []verb {
	var needed []verb
	for _, v := range steps {
		switch {
		case v == start && w.now.active() && !w.now.busy:
		case v == stop && (w.now.Active == "inactive" || w.now.Active == "failed") && !w.now.busy:
		case v == enable && w.now.Enabled == "enabled":
		case v == disable && w.now.Enabled == "disabled":
		default:
			needed = append(needed, v)
		}
	}
	return needed
}

// leads is how a unit is after a step.
func (v verb) leads(s State) State {
	switch v {
	case start, restart, reload:
		return State{Active: "active", Enabled: s.Enabled}
	case stop:
		return State{Active: "inactive", Enabled: s.Enabled}
	case enable:
		s.Enabled = "enabled"
	case disable:
		s.Enabled = "disabled"
	}
	return s
}

// run does the steps, and says in the outcome how the unit is then.
func (w *work) run(ctx context.Context, steps []verb) error {
	err := w.note()
	if err != nil {
		return err
	}
	for i, v := range steps {
		w.call.Progress(100*float64(i)/float64(len(steps)), string(v)+" "+w.unit)
		if err = w.step(ctx, v); err != nil {
			break
		}
	}
	if errors.Is(context.Cause(ctx), handlers.ErrStopping) && err != nil {
		return err // systemd goes on with it, and the next process is told.
	}
	var failed *FailedError
	if errors.As(err, &failed) {
		w.out.Journal = failed.Journal
	}
	s, showErr := w.show(context.WithoutCancel(ctx), w.unit)
	if showErr != nil {
		return errors.Join(err, showErr)
	}
	w.out.To = s.State
	w.out.Changed = w.out.Changed || s.active() != w.out.From.active() || s.Enabled != w.out.From.Enabled
	w.forget()
	if err != nil && s.Enabled != w.out.From.Enabled {
		err = fmt.Errorf("%w\n%s is %s now and was %s", err, w.unit, s.Enabled, w.out.From.Enabled)
	}
	return err
}

// step does one of the steps.
func (w *work) step(ctx context.Context, v verb) error {
	if ctx.Err() != nil {
		return w.end(ctx, context.Cause(ctx))
	}
	switch v {
	case enable:
		_, changes, err := w.EnableUnitFilesContext(ctx, []string{w.unit}, false, false)
		return w.linked(ctx, v, len(changes), err)
	case disable:
		changes, err := w.DisableUnitFilesContext(ctx, []string{w.unit}, false)
		return w.linked(ctx, v, len(changes), err)
	}
	w.out.Changed = w.out.Changed || v == restart || v == reload
	if err := w.change(ctx, v, w.unit, w.now, w.settle); err != nil {
		return w.end(ctx, err)
	}
	return nil
}

// linked has systemd see what was done to the links of a unit.
func (w *work) linked(ctx context.Context, v verb, changes int, err error) error {
	if err == nil && changes > 0 {
		w.out.Changed = true
		err = w.ReloadContext(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", v, w.unit, err)
	}
	return nil
}

// end stops a unit again that was not active and for which there is no more time to
// become so; a unit that was active is left as it is.
func (w *work) end(ctx context.Context, err error) error {
	if ctx.Err() == nil || errors.Is(context.Cause(ctx), handlers.ErrStopping) || w.out.From.active() {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if stopErr := w.change(ctx, stop, w.unit, w.now, 0); stopErr != nil {
		return fmt.Errorf("%w\n%w", err, stopErr)
	}
	return fmt.Errorf("%w\nas it was not active before, it was stopped again", err)
}
