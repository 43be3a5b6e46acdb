package ospackage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
)

// target is how a package is to be.
type target struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	State   string `json:"state,omitempty"`
	Hold    *bool  `json:"hold,omitempty"`
	// Other: nobody has named it; it goes back with those that were named.
	Other bool `json:"other,omitempty"`
	// was is what is known of it where it goes back.
	was *was
}

// was is how a package was before a task, and how it was to be.
type was struct {
	Name  string `json:"name"`
	From  string `json:"from"`
	To    string `json:"to"`
	Held  bool   `json:"held,omitempty"`
	Other bool   `json:"other,omitempty"`
	// Partial: it was not installed to the end.
	Partial bool `json:"partial,omitempty"`
}

// met says whether a package is as it is to be. Which version is the newest is not
// known to it: that is told by newest.
func (t target) met(is installed, there bool, newest string) bool {
	if t.Hold != nil && there && is.Held != *t.Hold {
		return false
	}
	switch t.State {
	case absent:
		return !there
	case latest:
		return there && is.Whole && is.Version == newest
	}
	return there && is.Whole && (t.Version == "" || pkgmanager.Matches(is.Version, t.Version))
}

// unmet are the targets for which something is to be done, perhaps.
func (j *job) unmet(there map[string]installed) []target {
	return slices.DeleteFunc(slices.Clone(j.targets), func(t target) bool {
		is, ok := there[t.Name]
		// What came along with a task, and was changed since, is somebody else's.
		return t.met(is, ok, "") || t.Other && t.was != nil && is.Version != t.was.To
	})
}

// operation is what brings packages to their targets.
func (j *job) operation(ctx context.Context, there map[string]installed) (operation, error) {
	var op operation
	for _, t := range j.unmet(there) {
		is, ok := there[t.Name]
		hold := t.Hold
		t.Hold = nil
		if t.met(is, ok, "") {
			continue // It is only to be held, or not.
		}
		t.Hold = hold
		if t.State == absent {
			op.Remove = append(op.Remove, t.Name)
			continue
		}
		version, err := j.resolve(ctx, t, is)
		if err != nil {
			return op, err
		}
		op.Install = append(op.Install, pin{Name: t.Name, Version: version, From: is.Version})
	}
	return op, nil
}

// resolve finds the version that is meant among those there are.
func (j *job) resolve(ctx context.Context, t target, is installed) (string, error) {
	switch {
	case t.State == latest:
		return "", nil
	case t.Version == "" || pkgmanager.Matches(is.Version, t.Version):
		return is.Version, nil // It is only to be completed, or there is none yet.
	}
	offers, err := j.sys.offers(ctx, t.Name)
	if err != nil {
		return "", j.unchanged(fmt.Errorf("%w%s", err, j.staleness()))
	}
	for _, same := range []func(string) bool{
		func(v string) bool { return v == t.Version },
		func(v string) bool { return pkgmanager.Matches(v, t.Version) },
	} {
		if i := slices.IndexFunc(offers, same); i >= 0 {
			return offers[i], nil
		}
	}
	const shown = 10
	has := "have none of it at all"
	if len(offers) > 0 {
		has = "have " + strings.Join(offers[:min(len(offers), shown)], ", ")
	}
	return "", j.unchanged(fmt.Errorf("the repositories of this server have no version %s of %s, they %s: put it into one of them, or name another%s",
		t.Version, t.Name, has, j.staleness()))
}

// guard refuses what goes beyond what may be touched.
func (j *job) guard(changes []Change, there map[string]installed) error {
	for _, c := range changes {
		if j.named(c.Name) {
			continue
		}
		if c.To == "" {
			if err := j.allow.Check(c.Name); err != nil {
				return handlers.Reject("%s (%s) would be removed, too: %v", c.Name, c.From, err)
			}
		}
		if there[c.Name].Held {
			return handlers.Reject("%s, which is held at %s, would become %s, too: name it in the task, or hold it no more", c.Name, there[c.Name].Version, c.To)
		}
	}
	return nil
}

func (j *job) named(name string) bool {
	return slices.ContainsFunc(j.targets, func(t target) bool { return t.Name == name })
}

// hold adds to an operation what is to be held, and says whether that changes
// anything.
func (j *job) hold(ctx context.Context, op *operation, changes []Change, there map[string]installed) (changed bool, err error) {
	for _, t := range j.targets {
		is, changes := there[t.Name], slices.ContainsFunc(changes, func(c Change) bool { return c.Name == t.Name })
		switch {
		case changes && is.Held && t.Hold == nil && !t.Other:
			return false, handlers.Reject("%s is held at %s: say \"hold\": true to change it and hold it then, or false", t.Name, is.Version)
		case t.Hold == nil:
			continue
		case *t.Hold && (!is.Held || changes):
			if err := j.sys.holds(ctx); err != nil {
				return false, handlers.Reject("%s cannot be held: %v", t.Name, err)
			}
			op.Hold = append(op.Hold, t.Name)
		}
		if is.Held && (changes || !*t.Hold) {
			op.Release = append(op.Release, t.Name)
			op.Held = append(op.Held, t.Name)
		}
		changed = changed || is.Held != *t.Hold && t.State != absent
	}
	return changed, nil
}

// partial says whether one of the targets is not installed to the end.
func (j *job) partial(there map[string]installed) bool {
	return slices.ContainsFunc(j.targets, func(t target) bool {
		is, ok := there[t.Name]
		return ok && !is.Whole
	})
}

// record is what is known of the packages before they change: of all that are named,
// and of the others that will change.
func (j *job) record(changes []Change, there map[string]installed) []was {
	var all []was
	for _, t := range j.targets {
		is, ok := there[t.Name]
		all = append(all, was{Name: t.Name, From: is.Version, To: is.Version, Held: is.Held, Other: t.Other, Partial: ok && !is.Whole})
	}
	for _, c := range changes {
		if i := slices.IndexFunc(all, func(w was) bool { return w.Name == c.Name }); i >= 0 {
			all[i].To = c.To
			continue
		}
		is := there[c.Name]
		all = append(all, was{Name: c.Name, From: is.Version, To: c.To, Held: is.Held, Other: true})
	}
	return all
}

// leads is how packages are after changes.
func (j *job) leads(changes []Change, there map[string]installed) map[string]installed {
	after := make(map[string]installed)
	for _, t := range j.targets {
		if is, ok := there[t.Name]; ok {
			is.Whole, is.Held = true, t.Hold != nil && *t.Hold || t.Hold == nil && is.Held
			after[t.Name] = is
		}
	}
	for _, c := range changes {
		if delete(after, c.Name); c.To != "" {
			after[c.Name] = installed{State: pkgmanager.State{Version: c.To, Whole: true}, Held: j.holdOf(c.Name, there[c.Name].Held)}
		}
	}
	return after
}

func (j *job) holdOf(name string, held bool) bool {
	for _, t := range j.targets {
		if t.Name == name && t.Hold != nil {
			return *t.Hold
		}
	}
	return held
}

// changes says what became of the packages: of all that are named, and of the others
// that have changed. Without a record they are as they were.
func (j *job) changes(record []was, after map[string]installed) []Change {
	if record == nil {
		for _, t := range j.targets {
			is := after[t.Name]
			record = append(record, was{Name: t.Name, From: is.Version, Held: is.Held, Other: t.Other})
		}
	}
	changes := []Change{}
	for _, w := range record {
		is, there := after[w.Name]
		c := Change{Name: w.Name, From: w.From, To: is.Version, WasHeld: w.Held, Held: is.Held, Other: w.Other}
		if there && !is.Whole {
			c.Incomplete = is.Says
		}
		if !w.Other || c.From != c.To {
			changes = append(changes, c)
		}
	}
	return changes
}
