package upgrade

import (
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
	"github.com/MatthiasWiesner/tasker/handlers/transientunit"
)

// upgradeResult is the result of an upgrade.
type upgradeResult struct {
	// pkg is the package of the agent, and from its version before.
	pkg, from string
	after     pkgmanager.State
	// wanted is the version that the task names, or empty.
	wanted string
	exit   transientunit.Exit
	// err is the error with which the upgrade was followed.
	err error
	// replaced reports whether the program of this process was replaced.
	replaced bool
}

// check returns an error unless the upgrade has succeeded.
func (r upgradeResult) check() error {
	lost := errors.Is(r.err, transientunit.ErrLost)
	changed := r.after.Version != r.from
	switch {
	case r.err != nil && !lost:
		// The task was cancelled or has timed out.
		if r.after.Complete && !changed {
			return r.err
		}
		return fmt.Errorf("%w; %s", r.err, r.describe())
	case lost, r.exit.Signal != "":
		// Without an exit status, only the installed version can prove the success.
		if !r.isReached() || r.wanted == "" && !changed {
			return fmt.Errorf("the package manager was interrupted: %w; %s", errors.Join(r.err, r.exit.Err()), r.describe())
		}
	case r.exit.Code != 0:
		return fmt.Errorf("the package manager failed with %w; %s", r.exit.Err(), r.describe())
	case !r.isReached() && r.wanted != "":
		return fmt.Errorf("%s, not %s", r.describe(), r.wanted)
	case !r.isReached():
		return errors.New(r.describe())
	}
	if r.replaced && changed {
		return fmt.Errorf("%s, but the agent was not restarted and still runs the old program; on the server: systemctl restart %s", r.describe(), r.pkg)
	}
	return nil
}

// isReached reports whether the wanted version is completely installed.
func (r upgradeResult) isReached() bool {
	return r.after.Complete && (r.wanted == "" || pkgmanager.Matches(r.after.Version, r.wanted))
}

// describe returns the state of the package.
func (r upgradeResult) describe() string {
	text := fmt.Sprintf("%s is at version %s", r.pkg, pkgmanager.Short(r.after.Version))
	if !r.after.Complete {
		text += " and not completely installed (" + r.after.Status + ")"
	}
	return text
}
