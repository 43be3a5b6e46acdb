package artifact

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/artifact/fetch"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// Name is the handler's name.
const Name = "artifact"

// Units are the server's services.
type Units interface {
	// Allowed says why a unit may not be restarted, as a rejection, or nil.
	Allowed(unit string) error
	// Restart restarts a unit and waits until it is active. The error names the unit,
	// and says why it is not, with its last journal lines.
	Restart(ctx context.Context, unit string) error
	// Stop stops a unit and waits until it is inactive.
	Stop(ctx context.Context, unit string) error
	// Journal returns the last lines of a unit's journal since then.
	Journal(ctx context.Context, unit string, since time.Time) []string
}

// Options are what the agent decides.
type Options struct {
	// Allow are the directories that may be deployed to, by absolute paths.
	Allow []string
	Units Units
	// Runner runs hooks and the commands of health checks.
	Runner *process.Runner
	// Before keeps which release was there before a task.
	Snapshots *snapshot.Store
}

// Outcome is the result's value.
type Outcome struct {
	// Changed: another release serves than before the task, or would (Plan).
	Changed bool `json:"changed"`
	// From and To are the release before, empty if there was none, and the one that
	// was asked for; Current is the one that now serves.
	From    string `json:"from"`
	To      string `json:"to"`
	Current string `json:"current"`
	// Step is the one that failed.
	Step         string `json:"step,omitempty"`
	SwitchedBack bool   `json:"switched_back,omitempty"`
	// Note says why nothing was to be done.
	Note string `json:"note,omitempty"`
	Plan bool   `json:"plan,omitempty"`
	// Would are the steps of a plan.
	Would []string `json:"would,omitempty"`
}

// Info describes the handler.
func Info() handlers.Info {
	return handlers.Info{
		Name:      Name,
		Summary:   "Updates an application: downloads a release, switches to it, restarts it, and switches back if it is not healthy.",
		Schema:    []byte(schema),
		Restart:   handlers.RestartRetry,
		CanDryRun: true,
		CanUndo:   true,
	}
}

// New makes the handler. The error names the entry of the allow-list that is wrong.
func New(o Options) (handlers.Handler, error) {
	for i, dir := range o.Allow {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || dir == "/" {
			return nil, fmt.Errorf("handlers.artifact: allow[%d]: %q is not the plain absolute path of a directory", i, dir)
		}
	}
	d := &deployer{Options: o, fetcher: fetch.Fetcher{
		Idle: 30 * time.Second, Patience: 5 * time.Minute,
		Retry: backoff.Policy{First: time.Second, Cap: 30 * time.Second},
	}}
	return handlers.Typed(Info(), d.handle), nil
}

type deployer struct {
	Options
	fetcher fetch.Fetcher
}

// deployment is one call.
type deployment struct {
	*deployer
	order
	call  handlers.Call
	place *place
	out   Outcome
	// since is when the release that is checked began to serve.
	since time.Time
}

func (h *deployer) handle(ctx context.Context, p Payload, call handlers.Call) (handlers.Result, error) {
	o, err := complete(p)
	if err != nil {
		return handlers.Result{}, err
	}
	if clean := filepath.Clean(p.Directory); clean != p.Directory {
		return handlers.Result{}, handlers.Reject("payload.directory is %s: write it as %s", p.Directory, clean)
	}
	if !slices.Contains(h.Allow, p.Directory) {
		return handlers.Result{}, handlers.Reject("the agent does not allow deployments to %s: add %[1]q to handlers.artifact.allow in its configuration", p.Directory)
	}
	if p.Unit != "" {
		if err := h.Units.Allowed(p.Unit); err != nil {
			return handlers.Result{}, err
		}
	}
	d := &deployment{deployer: h, order: o, call: call, out: Outcome{To: p.Version}, since: time.Now()}
	switch call.Action {
	case tasker.Plan:
		err = d.plan(ctx)
	case tasker.Undo:
		err = d.entered(ctx, d.undo)
	default:
		err = d.entered(ctx, d.perform)
	}
	var rejected *handlers.RejectError
	switch {
	case errors.As(err, &rejected):
		return handlers.Result{}, err
	case err == nil && call.Action == tasker.Plan:
		d.out.Step = ""
	case err == nil:
		d.step("", 100, orElse(d.out.Note, orElse(d.out.Current, "no release")+" is current"))
	case call.Action != tasker.Plan:
		d.out.Changed = d.out.Current != d.out.From
	}
	return handlers.Result{Value: d.out}, err
}

// entered does something in the place, where nobody else deploys meanwhile.
func (d *deployment) entered(ctx context.Context, do func(context.Context) error) error {
	d.step("enter", 0, "opening "+d.Directory)
	p, err := enter(ctx, d.Directory, func() { d.call.Progress(0, "waiting for another deployment to "+d.Directory) })
	if err != nil {
		return err
	}
	defer p.close()
	d.place = p
	return do(ctx)
}

// step says what is done next.
func (d *deployment) step(name string, percent float64, message string) {
	d.out.Step = name
	d.call.Progress(percent, message)
	fmt.Fprintln(d.call.Output, message)
}
