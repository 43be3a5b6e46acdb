package file

import (
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// spec is a payload that has been checked: the file that the task wants.
type spec struct {
	Payload
	// content is nil if the file is to be removed.
	content []byte
	// uid and gid are nil to keep the current ones.
	uid, gid *int
	// validateArgv is the command that validates the new file. One argument is the
	// placeholder.
	validateArgv []string
}

// placeholder stands for the path of the new file.
const placeholder = "{}"

// check rejects a payload that no agent would perform.
func check(p Payload) error {
	if p.State == absent {
		if p.Content != nil || p.Template != nil || p.Values != nil || p.Owner+p.Group+p.Mode != "" || p.Validate != nil {
			return handlers.Reject("payload: with state absent, only path, backup and diff are allowed")
		}
	} else if _, err := p.content(handlers.Call{Endpoint: "endpoint", Identifier: "identifier"}); err != nil {
		return err
	}
	if p.Validate != nil {
		if err := checkValidate(p.Validate); err != nil {
			return err
		}
	}
	return checkPath(p.Path)
}

// newSpec checks a payload before the file is read.
func (w *writer) newSpec(p Payload, call handlers.Call) (spec, error) {
	s := spec{Payload: p}
	err := check(p)
	if err != nil || p.State == absent {
		return s, err
	}
	if s.content, err = p.content(call); err != nil {
		return s, err
	}
	if s.uid, err = parseID("owner", "user", p.Owner, lookupUser); err != nil {
		return s, err
	}
	if s.gid, err = parseID("group", "group", p.Group, lookupGroup); err != nil {
		return s, err
	}
	if p.Validate != nil {
		s.validateArgv, err = w.matchValidate(p.Validate)
	}
	return s, err
}

// content returns the content that the payload describes.
func (p Payload) content(call handlers.Call) ([]byte, error) {
	switch {
	case (p.Content == nil) == (p.Template == nil):
		return nil, handlers.Reject("payload: either content or template is required (or state absent, which removes the file)")
	case p.Values != nil && p.Template == nil:
		return nil, handlers.Reject("payload.values: can be used with payload.template only")
	case p.Template == nil:
		return []byte(*p.Content), nil
	}
	content, err := render(*p.Template, p.Values, call)
	if err != nil {
		return nil, handlers.Reject("payload.template: %v", err)
	}
	return content, nil
}

// matchValidate rejects a command that the agent does not allow, or that is not called
// with the path of the new file. It matches the command with the placeholder, so that an
// entry of the allow-list can be for new files only.
func (w *writer) matchValidate(command []string) ([]string, error) {
	if err := checkValidate(command); err != nil {
		return nil, err
	}
	return w.commands.Match(command)
}

// checkValidate rejects a command that no agent would run.
func checkValidate(argv []string) error {
	if n := len(slices.DeleteFunc(slices.Clone(argv[1:]), func(s string) bool { return s != placeholder })); n != 1 {
		return handlers.Reject("payload.validate: exactly one argument must be %s, which stands for the path of the new file", placeholder)
	}
	if slices.ContainsFunc(argv, func(s string) bool { return strings.ContainsRune(s, 0) }) {
		return handlers.Reject("payload.validate contains a NUL")
	}
	return nil
}

// isPlainPath reports whether a path is absolute, has no other spelling, and is not the
// root.
func isPlainPath(path string) bool {
	return filepath.IsAbs(path) && filepath.Clean(path) == path && path != "/" && !strings.ContainsRune(path, 0)
}

// parseID returns the id of a user or group, which may be given by name or number; nil if
// it is not given.
func parseID(field, kind, name string, lookup func(string) (string, error)) (*int, error) {
	if name == "" {
		return nil, nil
	}
	id, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		found, err := lookup(name)
		if err != nil {
			return nil, handlers.Reject("payload.%s: there is no %s %q on this server: create it first, or give a numeric id (%v)", field, kind, name, err)
		}
		if id, err = strconv.ParseUint(found, 10, 32); err != nil {
			return nil, handlers.Reject("payload.%s: %v", field, err)
		}
	}
	if id == 1<<32-1 { // chown(2) would not change the owner.
		return nil, handlers.Reject("payload.%s: %s is not the number of a %s", field, name, kind)
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

// desired returns the file that the task wants; nil if it wants none. Attributes that the
// payload does not name are those of the current file.
func (s spec) desired(t *target, current *version) (*version, error) {
	if s.State == absent {
		return nil, nil
	}
	v := newVersion(s.content)
	if current != nil {
		v.UID, v.GID, v.Perm = current.UID, current.GID, current.Perm
	} else {
		if t.dir == nil {
			return nil, t.missingDirectory()
		}
		group, err := t.newFileGroup()
		if err != nil {
			return nil, err
		}
		v.UID, v.GID, v.Perm = os.Geteuid(), group, 0o644
	}
	if s.uid != nil {
		v.UID = *s.uid
	}
	if s.gid != nil {
		v.GID = *s.gid
	}
	if s.Mode != "" {
		perm, err := parseMode(s.Mode)
		if err != nil {
			return nil, handlers.Reject("payload.mode: %v", err)
		}
		v.Perm = perm
	}
	return v, nil
}
