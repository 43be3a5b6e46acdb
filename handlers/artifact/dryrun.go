package artifact

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers/artifact/fetch"
	"github.com/MatthiasWiesner/tasker/handlers/trust"
)

// dryRun lists the steps that perform would take. It only reads, and asks the server of
// the release for its size.
func (d *deployment) dryRun(ctx context.Context) error {
	if _, err := trust.CheckDir(d.Directory); err != nil {
		return err
	}
	app, err := openAppDir(d.Directory)
	if err != nil {
		return err
	}
	defer app.close()
	d.app = app
	state, err := d.readState()
	if err != nil {
		return err
	}
	installed, err := d.installer().isInstalled()
	if err != nil {
		return err
	}
	if installed && state.current == d.Version && state.pending == nil {
		d.out.Note = d.Version + " is already current"
		return nil
	}
	// A hook may install the unit.
	if d.Unit != "" && len(d.Hooks.Before) == 0 {
		if err := d.Units.CheckLoaded(ctx, d.Unit); err != nil {
			return err
		}
	}
	d.out.Changed = true
	keep := d.Keep
	if !installed {
		size, err := d.downloadSize(ctx)
		if err != nil {
			return err
		}
		d.wouldStep("download %s (%s)", fetch.Redact(d.source), size)
		d.wouldStep("unpack it into %s/%s/%s", d.Directory, releasesDir, d.Version)
		keep-- // The new release counts, but is not in the directory yet.
	}
	d.wouldSwitch(state)
	surplus, err := app.surplusReleases(keep, d.Version, state.confirmed)
	for _, version := range surplus {
		d.wouldStep("remove the release %s", version)
	}
	return err
}

// wouldSwitch lists the steps from the hook before the switch to the health check.
func (d *deployment) wouldSwitch(state appState) {
	if len(d.Hooks.Before) > 0 && state.current != d.Version {
		d.wouldStep("run the hook %s", strings.Join(d.Hooks.Before, " "))
	}
	d.wouldStep("switch from %s to %s", cmp.Or(state.current, "none"), d.Version)
	if d.Unit != "" {
		d.wouldStep("restart %s", d.Unit)
	}
	if len(d.Hooks.After) > 0 {
		d.wouldStep("run the hook %s", strings.Join(d.Hooks.After, " "))
	}
	if d.Health != nil {
		d.wouldStep("check whether it is healthy, and if not switch back to %s", cmp.Or(state.confirmed, "none"))
	}
}

func (d *deployment) wouldStep(format string, args ...any) {
	d.out.Would = append(d.out.Would, fmt.Sprintf(format, args...))
}

// downloadSize asks the server of the release for its size.
func (d *deployment) downloadSize(ctx context.Context) (string, error) {
	authorization, err := d.authorization(d.spec)
	if err != nil {
		return "", err
	}
	size, err := d.fetcher.Size(ctx, d.source, authorization)
	switch {
	case err != nil:
		return "", err
	case size > d.MaxSize:
		return "", fmt.Errorf("%s has %d bytes, and max_size is %d", fetch.Redact(d.source), size, d.MaxSize)
	case size < 0:
		return "of unknown size", nil
	}
	return formatSize(size), nil
}
