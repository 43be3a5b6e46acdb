package service

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// Name is the handler's name.
const Name = "service"

// Options are what the agent decides.
type Options struct {
	// Allow are the units that may be touched; none by default.
	Allow Allow
	// Before keeps how units were.
	Snapshots *snapshot.Store
	Log       *slog.Logger
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
		Name:      Name,
		Summary:   "Starts, stops, restarts, reloads, enables or disables a unit of systemd, or says how it is.",
		Restart:   handlers.RestartResume,
		Detached:  true,
		CanDryRun: true,
		CanUndo:   true,
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
	if err := o.Allow.names().Validate(); err != nil {
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
	before *snapshot.Store
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
	w := &work{conn: c, before: h.Snapshots, log: h.Log, call: call, unit: unit, settle: DefaultSettle}
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
