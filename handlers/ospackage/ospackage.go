package ospackage

import (
	"context"
	_ "embed"
	"errors"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/allowlist"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
	"github.com/MatthiasWiesner/tasker/handlers/transientunit"
)

// Name is the handler's name.
const Name = "package"

// Options configure the handler.
type Options struct {
	// Allow lists the names of the packages that a task may change, as patterns of
	// path.Match. Their dependencies are allowed too.
	Allow []string
	// Runner runs the commands that only read and download.
	Runner *process.Runner
	// Units is the directory for the files of transient units.
	Units string
	// Snapshots keeps the versions from before each task, for an undo.
	Snapshots *snapshot.Store
	Log       *slog.Logger
}

// Payload is the payload of a task.
type Payload struct {
	Packages []Package `json:"packages"`
	// State is present (the default), latest or absent.
	State string `json:"state,omitempty"`
	// Hold holds or releases the packages; nil does not change the hold.
	Hold *bool `json:"hold,omitempty"`
	// Update updates the package lists first; nil is true.
	Update *bool `json:"update,omitempty"`
	// LockTimeout bounds the wait for other package managers; nil is defaultLockTimeout.
	LockTimeout *tasker.Duration `json:"lock_timeout,omitempty"`
}

// Package is one package of a Payload.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
}

// Outcome is the value of the result.
type Outcome struct {
	DryRun  bool `json:"plan,omitempty"`
	Changed bool `json:"changed"`
	// Packages lists the named packages, and then all others that have changed.
	Packages []Change `json:"packages"`
	// Reason explains why there was nothing to undo.
	Reason string `json:"reason,omitempty"`
}

// Change describes a package before and after the task. A version is empty if the package
// is not installed.
type Change struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
	// WasHeld and Held report whether the package was held before, and is held after.
	WasHeld bool `json:"was_held,omitempty"`
	Held    bool `json:"held,omitempty"`
	// Incomplete is the package manager's status of a package that is not completely
	// installed.
	Incomplete string `json:"incomplete,omitempty"`
	// Other reports whether the task did not name the package.
	Other bool `json:"other,omitempty"`
}

const (
	present = "present"
	latest  = "latest"
	absent  = "absent"

	defaultLockTimeout = 5 * time.Minute
	maxLockTimeout     = time.Hour
)

//go:embed payload.schema.json
var payloadSchema []byte

// Info describes the handler.
func Info() handlers.Info {
	return handlers.Info{
		Name:      Name,
		Summary:   "Installs, upgrades, removes or holds packages, with the package manager of the server.",
		Restart:   handlers.RestartResume,
		Detached:  true,
		CanDryRun: true,
		CanUndo:   true,
		Schema:    payloadSchema,
	}
}

// New returns the handler. It returns an error that names the invalid entry of the
// allow-list.
func New(o Options) (handlers.Handler, error) {
	names := allowlist.List{Key: "handlers.package.allow", Patterns: o.Allow}
	if err := names.Validate(); err != nil {
		return nil, err
	}
	h := &handler{
		allow: names, runner: o.Runner, snapshots: o.Snapshots,
		units: &transientunit.Runner{Dir: o.Units, Grace: o.Runner.Grace, Log: o.Log},
		slot:  make(chan struct{}, 1),
	}
	return handlers.Typed(Info(), h.handle), nil
}

// handler is the handler.
type handler struct {
	allow     allowlist.List
	runner    *process.Runner
	units     *transientunit.Runner
	snapshots *snapshot.Store
	// slot lets one call at a time change packages.
	slot chan struct{}
}

func (h *handler) handle(ctx context.Context, p Payload, call handlers.Call) (handlers.Result, error) {
	if err := h.check(p); err != nil {
		return handlers.Result{}, err
	}
	m, err := detectManager()
	if err != nil {
		return handlers.Result{}, err
	}
	a := &assignment{handler: h, manager: m, call: call, update: p.Update == nil || *p.Update, lockTimeout: defaultLockTimeout}
	if p.LockTimeout != nil {
		a.lockTimeout = p.LockTimeout.D()
	}
	if err := a.addTargets(ctx, p); err != nil {
		return handlers.Result{}, err
	}
	err = a.run(ctx)
	var reject *handlers.RejectError
	if errors.As(err, &reject) && !call.Resumed {
		return handlers.Result{}, err
	}
	if reject != nil {
		err = errors.New(reject.Reason) // An earlier process may have started the transaction.
	}
	return handlers.Result{Value: a.out}, err
}

// check rejects what the handler must not or cannot do.
func (h *handler) check(p Payload) error {
	if p.State != "" && p.State != present && slices.ContainsFunc(p.Packages, func(pack Package) bool { return pack.Version != "" }) {
		return handlers.Reject("payload.packages: a version can be used with state present only, not with %s", p.State)
	}
	if p.State == absent && p.Hold != nil && *p.Hold {
		return handlers.Reject("payload.hold: a package that is removed cannot be held")
	}
	if p.LockTimeout != nil && p.LockTimeout.D() > maxLockTimeout {
		return handlers.Reject("payload.lock_timeout: %s is more than %s", p.LockTimeout, maxLockTimeout)
	}
	if uid := os.Geteuid(); uid != 0 {
		return handlers.Reject("the agent cannot install packages: it runs as user %d, and only root may", uid)
	}
	if err := transientunit.Available(); err != nil {
		return handlers.Reject("the agent cannot install packages: %v", err)
	}
	return nil
}
