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

// Units controls the services of the server.
type Units interface {
	// CheckAllowed returns a rejection if the agent may not restart a unit, else nil.
	CheckAllowed(unit string) error
	// CheckLoaded returns an error for a unit that cannot be restarted, such as a masked
	// one.
	CheckLoaded(ctx context.Context, unit string) error
	// Restart restarts a unit and waits until it is active. Its error names the unit
	// and the reason, with the last lines of the unit's journal.
	Restart(ctx context.Context, unit string) error
	// Stop stops a unit and waits until it is inactive.
	Stop(ctx context.Context, unit string) error
	// Journal returns the last lines of a unit's journal since a time.
	Journal(ctx context.Context, unit string, since time.Time) []string
}

// Options configure the handler.
type Options struct {
	// Allow lists the absolute paths of the directories to which releases may be
	// deployed.
	Allow []string
	// Sources lists the URLs at and below which releases may be fetched (see
	// fetch.NewSources), and TokenFiles the absolute paths of the files whose token a task
	// may send to them.
	Sources, TokenFiles []string
	Units               Units
	// Runner runs hooks and the commands of health checks.
	Runner *process.Runner
	// Snapshots keeps, for each task, the release that was current before it.
	Snapshots *snapshot.Store
}

// Outcome is the value of the result.
type Outcome struct {
	// Changed reports whether another release is current than before the task. In a
	// dry run it reports whether the task would change that.
	Changed bool `json:"changed"`
	// From is the release before the task (empty: none), To the requested release, and
	// Current the release that is current after the task.
	From    string `json:"from"`
	To      string `json:"to"`
	Current string `json:"current"`
	// Step is the step that failed.
	Step         string `json:"step,omitempty"`
	SwitchedBack bool   `json:"switched_back,omitempty"`
	// Note explains why the task had nothing to do.
	Note   string `json:"note,omitempty"`
	DryRun bool   `json:"plan,omitempty"`
	// Would lists the steps that a dry run found necessary.
	Would []string `json:"would,omitempty"`
}

// Info describes the handler.
func Info() handlers.Info {
	return handlers.Info{
		Name:      Name,
		Summary:   "Updates an application: downloads a release, switches to it, restarts it, and switches back if it is not healthy.",
		Schema:    payloadSchema,
		Restart:   handlers.RestartRetry,
		CanDryRun: true,
		CanUndo:   true,
	}
}

// New returns the handler. It returns an error that names the invalid entry of an
// allow-list.
func New(o Options) (handlers.Handler, error) {
	for i, dir := range o.Allow {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || dir == "/" {
			return nil, fmt.Errorf("handlers.artifact: allow[%d]: %q is not the plain absolute path of a directory", i, dir)
		}
	}
	for i, file := range o.TokenFiles {
		if !filepath.IsAbs(file) || filepath.Clean(file) != file {
			return nil, fmt.Errorf("handlers.artifact: token_files[%d]: %q is not the plain absolute path of a file", i, file)
		}
	}
	sources, err := fetch.NewSources(o.Sources)
	if err != nil {
		return nil, err
	}
	d := &deployer{Options: o, fetcher: fetch.Fetcher{
		Sources: sources, IdleTimeout: 30 * time.Second, GiveUpAfter: 5 * time.Minute,
		Retry: backoff.Policy{First: time.Second, Cap: 30 * time.Second},
	}}
	return handlers.Typed(Info(), d.handle), nil
}

// deployer is the handler.
type deployer struct {
	Options
	fetcher fetch.Fetcher
}

func (h *deployer) handle(ctx context.Context, p Payload, call handlers.Call) (handlers.Result, error) {
	s, err := newSpec(p)
	if err != nil {
		return handlers.Result{}, err
	}
	if err := h.checkAllowed(p); err != nil {
		return handlers.Result{}, err
	}
	// An undo fetches nothing. A resumed call may have fetched its release already; if not,
	// the download checks the source again.
	if call.Action != tasker.Undo && !call.Resumed {
		if err := h.checkSource(s); err != nil {
			return handlers.Result{}, err
		}
	}
	d := &deployment{deployer: h, spec: s, progress: &progress{call: call}, out: Outcome{To: p.Version}}
	err = d.run(ctx)
	var rejected *handlers.RejectError
	if errors.As(err, &rejected) {
		return handlers.Result{}, err
	}
	return handlers.Result{Value: d.out}, err
}

// checkAllowed rejects directories and units that the agent's configuration does not allow.
func (h *deployer) checkAllowed(p Payload) error {
	if clean := filepath.Clean(p.Directory); clean != p.Directory {
		return handlers.Reject("payload.directory is %s: write it as %s", p.Directory, clean)
	}
	if !slices.Contains(h.Allow, p.Directory) {
		return handlers.Reject("the agent does not allow deployments to %s: add %[1]q to handlers.artifact.allow in its configuration", p.Directory)
	}
	if p.Unit == "" {
		return nil
	}
	return h.Units.CheckAllowed(p.Unit)
}

// checkSource rejects a source that the agent's configuration does not allow, and a token
// that must not be sent to it.
func (h *deployer) checkSource(s spec) error {
	if err := h.fetcher.Sources.Check(s.source); err != nil {
		return err
	}
	return h.checkToken(s)
}

// checkToken rejects a token file that the agent's configuration does not allow, or whose
// token must not be sent to the source.
func (h *deployer) checkToken(s spec) error {
	switch {
	case s.TokenFile == "":
		return nil
	case !slices.Contains(h.TokenFiles, s.TokenFile):
		return handlers.Reject("the agent may not send the token of %s: add %[1]q to handlers.artifact.token_files in its configuration", s.TokenFile)
	case !h.fetcher.Sources.Names(s.source):
		return handlers.Reject("the agent sends a token only to a host that its configuration names without a wildcard: add %q to handlers.artifact.sources", s.source.Scheme+"://"+s.source.Host)
	}
	return nil
}

// authorization returns the value of the header with which the release is fetched; empty
// sends none.
func (h *deployer) authorization(s spec) (string, error) {
	if err := h.checkToken(s); err != nil {
		return "", err
	}
	return s.readToken()
}

// progress reports the steps of one call to the control plane and to the task's output.
type progress struct {
	call handlers.Call
	// step is the name of the current step.
	step string
}

// start reports that a step begins.
func (p *progress) start(step string, percent float64, message string) {
	p.step = step
	p.call.Progress(percent, message)
	fmt.Fprintln(p.call.Output, message)
}
