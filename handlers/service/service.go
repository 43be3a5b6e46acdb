package service

import (
	"context"
	_ "embed"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
	"github.com/MatthiasWiesner/tasker/handlers/systemd"
)

// Name is the handler's name.
const Name = "service"

// Options configure the handler.
type Options struct {
	// Allow permits units; it is empty by default, which permits none.
	Allow Allow
	// Snapshots keeps the states of units from before tasks.
	Snapshots *snapshot.Store
	Log       *slog.Logger
}

// Payload is the payload of a task.
type Payload struct {
	Unit string `json:"unit"`
	Verb verb   `json:"verb"`
	// Now makes enable also start the unit, and disable also stop it.
	Now bool `json:"now,omitempty"`
	// Settle is DefaultSettle if nil.
	Settle *tasker.Duration `json:"settle,omitempty"`
}

// Outcome is the value of the result.
type Outcome struct {
	Unit string `json:"unit"`
	// DryRun reports whether the task was a dry run. Changed and To are then predictions.
	DryRun  bool  `json:"plan,omitempty"`
	Changed bool  `json:"changed"`
	From    State `json:"from"`
	To      State `json:"to"`
	// Journal has the last lines of the unit's journal if the unit has failed.
	Journal []string `json:"journal,omitempty"`
	// Reason explains why there was nothing to undo.
	Reason string `json:"reason,omitempty"`
}

// verb is an action on a unit.
type verb string

const (
	start   verb = "start"
	stop    verb = "stop"
	restart verb = "restart"
	reload  verb = "reload"
	enable  verb = "enable"
	disable verb = "disable"
	status  verb = "status"
)

// participle returns the past participle, like started.
func (v verb) participle() string {
	switch v {
	case stop:
		return "stopped"
	case enable, disable:
		return string(v) + "d"
	}
	return string(v) + "ed"
}

// predict returns the state of a unit after the verb was applied in state s.
func (v verb) predict(s State) State {
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

// maxSettle is the upper limit of Payload.Settle.
const maxSettle = 10 * time.Minute

//go:embed payload.schema.json
var payloadSchema []byte

// Info describes the handler.
func Info() handlers.Info {
	return handlers.Info{
		Name:      Name,
		Summary:   "Starts, stops, restarts, reloads, enables or disables a unit of systemd, or reports its state.",
		Restart:   handlers.RestartResume,
		Detached:  true,
		CanDryRun: true,
		CanUndo:   true,
		Schema:    payloadSchema,
	}
}

// New returns the handler. It returns an error that names a malformed entry of the
// allow-list.
func New(o Options) (handlers.Handler, error) {
	if err := o.Allow.list().Validate(); err != nil {
		return nil, err
	}
	h := handler(o)
	return handlers.Typed(Info(), func(ctx context.Context, p Payload, call handlers.Call) (handlers.Result, error) {
		result, err := h.handle(ctx, p, call)
		var reject *handlers.RejectError
		if call.Resumed && errors.As(err, &reject) {
			err = errors.New(reject.Reason) // An earlier process may have started something.
		}
		return result, err
	}), nil
}

type handler Options

// operation is one call of the handler.
type operation struct {
	*systemd.Conn
	snapshots *snapshot.Store
	log       *slog.Logger
	call      handlers.Call
	unit      string
	settle    time.Duration
	// current is the state of the unit at the beginning of the call.
	current unitState
	outcome Outcome
}

func (h handler) handle(ctx context.Context, p Payload, call handlers.Call) (handlers.Result, error) {
	unit := Complete(p.Unit)
	if err := h.check(unit, p); err != nil {
		return handlers.Result{}, err
	}
	c, err := systemd.Connect(ctx)
	if err != nil {
		return handlers.Result{}, err
	}
	defer c.Close()
	op := &operation{Conn: c, snapshots: h.Snapshots, log: h.Log, call: call, unit: unit, settle: DefaultSettle}
	if p.Settle != nil {
		op.settle = p.Settle.D()
	}
	// Even if ctx is done: the request of an earlier process must still be ended.
	if op.current, err = stateOf(context.WithoutCancel(ctx), c, unit); err != nil {
		return handlers.Result{}, err
	}
	op.outcome = Outcome{Unit: unit, DryRun: call.Action == tasker.DryRun, From: op.current.State, To: op.current.State}
	switch {
	case op.current.load != "loaded":
		return handlers.Result{}, handlers.Reject("%s: %s", unit, op.current.loadProblem())
	case p.Verb == status:
	case call.Action == tasker.Undo:
		err = op.undo(ctx)
	default:
		err = op.perform(ctx, p)
	}
	var reject *handlers.RejectError
	if errors.As(err, &reject) {
		return handlers.Result{}, err
	}
	return handlers.Result{Value: op.outcome}, err
}

// check rejects a payload that cannot be performed on this server.
func (h handler) check(unit string, p Payload) error {
	if err := h.Allow.CheckAllowed(unit); err != nil {
		return err
	}
	switch {
	case strings.Contains(unit, "@."):
		return handlers.Reject("payload.unit: %s is a template; name an instance of it, like %s", unit, strings.Replace(unit, "@.", "@1.", 1))
	case p.Now && p.Verb != enable && p.Verb != disable:
		return handlers.Reject("payload.now is for enable and disable only")
	case p.Settle != nil && p.Settle.D() > maxSettle:
		return handlers.Reject("payload.settle: %s is more than %s", p.Settle, maxSettle)
	}
	if !systemd.Running() {
		return handlers.Reject("%s cannot be managed: systemd is not running on this server", unit)
	}
	return nil
}
