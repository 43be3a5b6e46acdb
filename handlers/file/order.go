package file

import (
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// order is a payload that has been checked: what is wanted.
type order struct {
	Payload
	// content is nil if the file is to be removed.
	content []byte
	// uid and gid are nil for those of before.
	uid, gid *int
	// validate is the command to run, with {} in it.
	validate []string
}

const placeholder = "{}"

// check rejects what cannot be wanted, before the file is looked at.
func (w *writer) check(p Payload, call handlers.Call) (order, error) {
	o := order{Payload: p}
	if p.State == absent {
		if p.Content != nil || p.Template != nil || p.Values != nil || p.Owner+p.Group+p.Mode != "" || p.Validate != nil {
			return o, handlers.Reject("payload: with state absent go only path, backup and diff")
		}
		return o, nil
	}
	var err error
	switch {
	case (p.Content == nil) == (p.Template == nil):
		return o, handlers.Reject("payload: either content or template says what is in the file (or state absent, that it is to be removed)")
	case p.Values != nil && p.Template == nil:
		return o, handlers.Reject("payload.values are of use with payload.template only")
	case p.Template != nil:
		if o.content, err = render(*p.Template, p.Values, call); err != nil {
			return o, handlers.Reject("payload.template: %v", err)
		}
	default:
		o.content = []byte(*p.Content)
	}
	if o.uid, err = number("owner", "user", p.Owner, lookupUser); err != nil {
		return o, err
	}
	if o.gid, err = number("group", "group", p.Group, lookupGroup); err != nil {
		return o, err
	}
	if p.Validate != nil {
		// Matched with {} as it is, an entry may be for new files only.
		if o.validate, err = w.commands.Match(p.Validate); err != nil {
			return o, err
		}
		if n := len(slices.DeleteFunc(slices.Clone(o.validate[1:]), func(s string) bool { return s != placeholder })); n != 1 {
			return o, handlers.Reject("payload.validate: exactly one argument has to be %s, which stands for the path of the new file", placeholder)
		}
		if slices.ContainsFunc(o.validate, func(s string) bool { return strings.ContainsRune(s, 0) }) {
			return o, handlers.Reject("payload.validate contains a NUL")
		}
	}
	return o, nil
}

// plain says whether a path has one spelling only, and is not the root.
func plain(path string) bool {
	return filepath.IsAbs(path) && filepath.Clean(path) == path && path != "/" && !strings.ContainsRune(path, 0)
}

// number is the id of a user or group that is given by its name or its number.
func number(field, kind, name string, lookup func(string) (string, error)) (*int, error) {
	if name == "" {
		return nil, nil
	}
	id, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		found, err := lookup(name)
		if err != nil {
			return nil, handlers.Reject("payload.%s: there is no %s %q on this server: make it first, or give the number of one that is not in /etc (%v)", field, kind, name, err)
		}
		if id, err = strconv.ParseUint(found, 10, 32); err != nil {
			return nil, handlers.Reject("payload.%s: %v", field, err)
		}
	}
	if id == 1<<32-1 { // which says chown to leave it
		return nil, handlers.Reject("payload.%s: %s is no number of a %s", field, name, kind)
	}
	n := int(id)
	return &n, nil
}

func lookupUser(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func lookupGroup(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}

// wanted is the file that is wanted, where the file is now as it is; nil is none.
func (o order) wanted(at *place, now *version) (*version, error) {
	if o.State == absent {
		return nil, nil
	}
	want := newVersion(o.content)
	if now != nil {
		want.UID, want.GID, want.Perm = now.UID, now.GID, now.Perm
	} else {
		if at.dir == nil {
			return nil, at.noDirectory()
		}
		group, err := at.group()
		if err != nil {
			return nil, err
		}
		want.UID, want.GID, want.Perm = os.Geteuid(), group, 0o644
	}
	if o.uid != nil {
		want.UID = *o.uid
	}
	if o.gid != nil {
		want.GID = *o.gid
	}
	if o.Mode != "" {
		perm, err := strconv.ParseUint(o.Mode, 8, 32)
		if err != nil {
			return nil, handlers.Reject("payload.mode: %q is not like 0644", o.Mode)
		}
		want.Perm = fs.FileMode(perm)
	}
	return want, nil
}
