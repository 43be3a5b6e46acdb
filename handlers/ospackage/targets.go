package ospackage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
)

// target is the state to which a task brings a package.
type target struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	State   string `json:"state,omitempty"`
	Hold    *bool  `json:"hold,omitempty"`
	// Other marks a package that an undo changes back although the task did not name it.
	Other bool `json:"other,omitempty"`
	// record is set in an undo: the package before and after the task.
	record *packageRecord
}

// packageRecord describes a package before a task, and the version that the task wanted.
type packageRecord struct {
	Name  string `json:"name"`
	From  string `json:"from"`
	To    string `json:"to"`
	Held  bool   `json:"held,omitempty"`
	Other bool   `json:"other,omitempty"`
	// Incomplete reports whether the package was not completely installed.
	Incomplete bool `json:"partial,omitempty"`
}

// isMet reports whether a package has the target's state. Newest is the version that
// counts as the latest.
func (t target) isMet(p installedPackage, exists bool, newest string) bool {
	if t.Hold != nil && exists && p.Held != *t.Hold {
		return false
	}
	switch t.State {
	case absent:
		return !exists
	case latest:
		return exists && p.Complete && p.Version == newest
	}
	return exists && p.Complete && (t.Version == "" || pkgmanager.Matches(p.Version, t.Version))
}

// addTargets adds the packages of a payload. It rejects names and versions that the package
// manager would not read as exactly one package, and packages that the agent does not allow.
func (a *assignment) addTargets(ctx context.Context, p Payload) error {
	for _, pack := range p.Packages {
		name, err := a.manager.parseName(ctx, pack.Name)
		if err != nil {
			return err
		}
		if err := a.allow.Check(pack.Name, name, a.manager.withoutArch(name)); err != nil {
			return err
		}
		if pack.Version != "" {
			if err := a.manager.checkVersion(pack.Version); err != nil {
				return err
			}
		}
		if slices.ContainsFunc(a.targets, func(t target) bool { return t.Name == name }) {
			return handlers.Reject("payload.packages: %s is listed twice", name)
		}
		a.targets = append(a.targets, target{Name: name, Version: pack.Version, State: p.State, Hold: p.Hold})
	}
	return nil
}

// unmet returns the targets that may require a change.
func (a *assignment) unmet(installed map[string]installedPackage) []target {
	return slices.DeleteFunc(slices.Clone(a.targets), func(t target) bool {
		p, exists := installed[t.Name]
		// An undo does not touch an unnamed package that was changed after the task.
		return t.isMet(p, exists, "") || t.Other && t.record != nil && p.Version != t.record.To
	})
}

// buildOperation returns the installations and removals that the targets require.
func (a *assignment) buildOperation(ctx context.Context, installed map[string]installedPackage) (operation, error) {
	var op operation
	unmet := a.unmet(installed)
	available, err := a.availableVersions(ctx, unmet, installed)
	if err != nil {
		return op, a.unchanged(err)
	}
	for _, t := range unmet {
		p, exists := installed[t.Name]
		withoutHold := t
		withoutHold.Hold = nil
		if withoutHold.isMet(p, exists, "") {
			continue // Only the hold has to change.
		}
		if t.State == absent {
			op.Remove = append(op.Remove, t.Name)
			continue
		}
		version, err := a.resolveVersion(t, p, available[t.Name])
		if err != nil {
			return op, err
		}
		op.Install = append(op.Install, installation{Name: t.Name, Version: version, From: p.Version})
	}
	return op, nil
}

// availableVersions returns the versions of the targets that may have to be installed.
func (a *assignment) availableVersions(ctx context.Context, targets []target, installed map[string]installedPackage) (map[string][]string, error) {
	var names []string
	for _, t := range targets {
		if _, exists := installed[t.Name]; t.State != absent && (t.Version != "" || !exists) {
			names = append(names, t.Name)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	return a.manager.availableVersions(ctx, names)
}

// resolveVersion returns the full version of a target; empty for the newest one.
func (a *assignment) resolveVersion(t target, p installedPackage, available []string) (string, error) {
	switch {
	case p.Version == "" && t.Version == "" && len(available) == 0:
		return "", a.unchanged(fmt.Errorf("the repositories of this server have no package %s: correct the name, or add a repository that has it", t.Name))
	case t.State == latest:
		return "", nil
	case t.Version == "" || pkgmanager.Matches(p.Version, t.Version):
		return p.Version, nil // The package is incomplete, or not installed.
	}
	for _, matches := range []func(string) bool{
		func(v string) bool { return v == t.Version },
		func(v string) bool { return pkgmanager.Matches(v, t.Version) },
	} {
		if i := slices.IndexFunc(available, matches); i >= 0 {
			return available[i], nil
		}
	}
	const shown = 10
	has := "none"
	if len(available) > 0 {
		has = strings.Join(available[:min(len(available), shown)], ", ")
	}
	return "", a.unchanged(fmt.Errorf("version %s of %s is not in the repositories of this server (available: %s); add it to one of them, or choose another version",
		t.Version, t.Name, has))
}

// checkChanges rejects a transaction that would not install the named packages themselves,
// would remove packages which the agent does not allow, or would change held packages which
// the task does not name.
func (a *assignment) checkChanges(op operation, changes []Change, installed map[string]installedPackage) error {
	for _, p := range op.Install {
		installs := func(c Change) bool { return c.Name == p.Name && (p.Version == "" || c.To == p.Version) }
		if p.From == "" && !slices.ContainsFunc(changes, installs) {
			return handlers.Reject("the package manager would not install %s but other packages", strings.TrimSpace(p.Name+" "+p.Version))
		}
	}
	for _, c := range changes {
		if slices.ContainsFunc(a.targets, func(t target) bool { return t.Name == c.Name }) {
			continue
		}
		if c.To == "" {
			if err := a.allow.Check(c.Name, a.manager.withoutArch(c.Name)); err != nil {
				return handlers.Reject("%s (%s) would be removed, too: %v", c.Name, c.From, err)
			}
		}
		if installed[c.Name].Held {
			if c.To == "" {
				return handlers.Reject("%s is held at %s, but the transaction would remove it: name it in the task, or release the hold", c.Name, installed[c.Name].Version)
			}
			return handlers.Reject("%s is held at %s, but the transaction would change it to %s: name it in the task, or release the hold", c.Name, installed[c.Name].Version, c.To)
		}
	}
	return nil
}

// addHolds adds the holds to a transaction, and reports whether a hold changes.
func (a *assignment) addHolds(ctx context.Context, t *transaction, installed map[string]installedPackage) (changed bool, err error) {
	for _, target := range a.targets {
		p := installed[target.Name]
		changes := slices.ContainsFunc(t.changes, func(c Change) bool { return c.Name == target.Name })
		if target.Hold == nil {
			if changes && p.Held && !target.Other {
				return false, handlers.Reject("%s is held at %s: set \"hold\" to true to change it and hold it again, or to false to release it", target.Name, p.Version)
			}
			continue
		}
		if *target.Hold && (!p.Held || changes) {
			if err := a.manager.checkHold(ctx); err != nil {
				return false, handlers.Reject("%s cannot be held: %v", target.Name, err)
			}
			t.Hold = append(t.Hold, target.Name)
		}
		if p.Held && (changes || !*target.Hold) {
			t.Release = append(t.Release, target.Name)
			t.Restore = append(t.Restore, target.Name)
		}
		changed = changed || p.Held != *target.Hold && target.State != absent
	}
	return changed, nil
}

// newRecords returns the records of the named packages and of all others that will change.
func (a *assignment) newRecords(changes []Change, installed map[string]installedPackage) []packageRecord {
	var records []packageRecord
	for _, t := range a.targets {
		p, exists := installed[t.Name]
		records = append(records, packageRecord{Name: t.Name, From: p.Version, To: p.Version, Held: p.Held, Other: t.Other, Incomplete: exists && !p.Complete})
	}
	for _, c := range changes {
		if i := slices.IndexFunc(records, func(r packageRecord) bool { return r.Name == c.Name }); i >= 0 {
			records[i].To = c.To
			continue
		}
		p := installed[c.Name]
		records = append(records, packageRecord{Name: c.Name, From: p.Version, To: c.To, Held: p.Held, Other: true})
	}
	return records
}

// predict returns the packages as they would be after the changes.
func (a *assignment) predict(changes []Change, installed map[string]installedPackage) map[string]installedPackage {
	holds := make(map[string]bool)
	after := make(map[string]installedPackage)
	for _, t := range a.targets {
		p, exists := installed[t.Name]
		holds[t.Name] = t.Hold != nil && *t.Hold || t.Hold == nil && p.Held
		if exists {
			p.Complete, p.Held = true, holds[t.Name]
			after[t.Name] = p
		}
	}
	for _, c := range changes {
		if delete(after, c.Name); c.To == "" {
			continue
		}
		held, named := holds[c.Name]
		if !named {
			held = installed[c.Name].Held
		}
		after[c.Name] = installedPackage{State: pkgmanager.State{Version: c.To, Complete: true}, Held: held}
	}
	return after
}

// report lists the named packages and all others that have changed. Without records the
// packages are unchanged.
func (a *assignment) report(records []packageRecord, after map[string]installedPackage) []Change {
	if records == nil {
		for _, t := range a.targets {
			p := after[t.Name]
			records = append(records, packageRecord{Name: t.Name, From: p.Version, Held: p.Held, Other: t.Other})
		}
	}
	changes := []Change{}
	for _, r := range records {
		p, exists := after[r.Name]
		c := Change{Name: r.Name, From: r.From, To: p.Version, WasHeld: r.Held, Held: p.Held, Other: r.Other}
		if exists && !p.Complete {
			c.Incomplete = p.Status
		}
		if !r.Other || c.From != c.To {
			changes = append(changes, c)
		}
	}
	return changes
}
