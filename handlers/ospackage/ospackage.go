package ospackage

import (
	"context"
	"errors"
	"log/slog"
	"os"
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

// Options are what the agent decides.
type Options struct {
	// Allow are patterns of path.Match of the packages that may be touched; none by
	// default. What these need comes with them.
	Allow []string
	// Runner runs what reads and downloads.
	Runner *process.Runner
	// Units is where is kept what must outlive the agent.
	Units string
	// Before keeps which versions there were.
	Snapshots *snapshot.Store
	Log       *slog.Logger
}

// Payload is what a task asks for.
type Payload struct {
	Packages []Package `json:"packages"`
	// State is present if empty.
	State string `json:"state,omitempty"`
	// Hold is how they are to be held then; nil leaves it.
	Hold *bool `json:"hold,omitempty"`
	// Update is true if nil.
	Update *bool `json:"update,omitempty"`
	// LockTimeout is defaultLockTimeout if nil.
	LockTimeout *tasker.Duration `json:"lock_timeout,omitempty"`
}

// Package is one package of a Payload.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
}

// Outcome is the result's value.
type Outcome struct {
	// Plan: it is what would be.
	Plan    bool `json:"plan,omitempty"`
	Changed bool `json:"changed"`
	// Packages are those that were named, then all others that have changed.
	Packages []Change `json:"packages"`
	// Reason says why there was nothing to undo.
	Reason string `json:"reason,omitempty"`
}

// Change is what became of a package; no version is one that is not installed.
type Change struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
	// WasHeld and Held: the package manager was, and is, to leave it alone.
	WasHeld bool `json:"was_held,omitempty"`
	Held    bool `json:"held,omitempty"`
	// Incomplete says in the package manager's words how it is not installed to the end.
	Incomplete string `json:"incomplete,omitempty"`
	// Other: nobody has named it.
	Other bool `json:"other,omitempty"`
}

const (
	present = "present"
	latest  = "latest"
	absent  = "absent"

	defaultLockTimeout = 5 * time.Minute
	maxLockTimeout     = time.Hour
)

// Info describes the handler.
func Info() handlers.Info {
	return handlers.Info{
		Name:      Name,
		Summary:   "Installs, upgrades, removes or holds packages, with the package manager of the server.",
		Restart:   handlers.RestartResume,
		Detached:  true,
		CanDryRun: true,
		CanUndo:   true,
		Schema: []byte(`{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "packages": {
      "description": "the packages, which change together or not at all",
      "type": "array", "minItems": 1, "maxItems": 50,
      "items": {
        "type": "object",
        "properties": {
          "name": {"description": "the package", "type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9+._-]*[A-Za-z0-9+])?$", "maxLength": 200},
          "version": {
            "description": "the version to install, an older one too, as 1.2.3 or as the package has it, 1.2.3-1",
            "type": "string", "pattern": "^[0-9A-Za-z][0-9A-Za-z.+~^:_-]*$", "maxLength": 100
          }
        },
        "required": ["name"],
        "additionalProperties": false
      }
    },
    "state": {
      "description": "present, which is the default, leaves a version alone that is there and that nobody has named; latest is the newest one there is",
      "type": "string", "enum": ["present", "latest", "absent"]
    },
    "hold": {"description": "true: leave the version alone in upgrades from then on; false: do not; left out: as it is", "type": "boolean"},
    "update": {"description": "fetch the lists of packages before; true if left out", "type": "boolean"},
    "lock_timeout": {
      "description": "how long to wait for another package manager, like 10m; 5m if left out, 1h at most",
      "type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$", "maxLength": 20
    }
  },
  "required": ["packages"],
  "additionalProperties": false
}`),
	}
}

// New makes the handler. The error names the entry of the allow-list that is wrong.
func New(o Options) (handlers.Handler, error) {
	names := allowlist.List{Key: "handlers.package.allow", Patterns: o.Allow}
	if err := names.Validate(); err != nil {
		return nil, err
	}
	h := &handler{
		allow: names, runner: o.Runner, before: o.Snapshots,
		units: &transientunit.Runner{Dir: o.Units, Grace: o.Runner.Grace, Log: o.Log},
		turn:  make(chan struct{}, 1),
	}
	return handlers.Typed(Info(), h.handle), nil
}

type handler struct {
	allow  allowlist.List
	runner *process.Runner
	units  *transientunit.Runner
	before *snapshot.Store
	// turn has room for the one call that changes something.
	turn chan struct{}
}

func (h *handler) handle(ctx context.Context, p Payload, call handlers.Call) (handlers.Result, error) {
	if err := h.check(p); err != nil {
		return handlers.Result{}, err
	}
	j := &job{handler: h, call: call, update: p.Update == nil || *p.Update, patience: defaultLockTimeout}
	if p.LockTimeout != nil {
		j.patience = p.LockTimeout.D()
	}
	for _, pack := range p.Packages {
		j.targets = append(j.targets, target{Name: pack.Name, Version: pack.Version, State: p.State, Hold: p.Hold})
	}
	err := j.do(ctx)
	var reject *handlers.RejectError
	if errors.As(err, &reject) && !call.Resumed {
		return handlers.Result{}, err
	}
	if reject != nil {
		err = errors.New(reject.Reason) // An earlier process may have begun.
	}
	return handlers.Result{Value: j.out}, err
}

// check rejects what is not to be tried.
func (h *handler) check(p Payload) error {
	seen := make(map[string]bool)
	for _, pack := range p.Packages {
		if err := h.allow.Check(pack.Name); err != nil {
			return err
		}
		switch {
		case seen[pack.Name]:
			return handlers.Reject("payload.packages: %s is named twice", pack.Name)
		case pack.Version != "" && p.State != "" && p.State != present:
			return handlers.Reject("payload.packages: a version goes with state present only, not with %s", p.State)
		}
		seen[pack.Name] = true
	}
	if p.State == absent && p.Hold != nil && *p.Hold {
		return handlers.Reject("payload.hold: what is absent cannot be held")
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
