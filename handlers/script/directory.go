package script

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/trust"
)

// directory is where the scripts are. Every use looks at it anew, so that a
// script can be added and removed while the agent runs.
type directory string

// errNone: there is no such script, which is no reason for a warning.
var errNone = errors.New("there is no such script")

// script is one that may be run.
type script struct {
	path string
	abilities
}

// abilities are what a script's header says.
type abilities struct {
	restart handlers.Restart
	// plan and undo: the script may be run for these actions.
	plan, undo bool
}

// open checks the way to the directory.
func (d directory) open() (*os.Root, error) {
	dir, err := trust.CheckDir(string(d))
	if err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

// find returns the script for a task type, or why there is none.
func (d directory) find(taskType string) (script, error) {
	root, err := d.open()
	if errors.Is(err, fs.ErrNotExist) {
		return script{}, errNone
	}
	if err != nil {
		return script{}, fmt.Errorf("script directory: %w", err)
	}
	defer func() { _ = root.Close() }()
	return find(root, taskType)
}

func find(root *os.Root, taskType string) (script, error) {
	if err := tasker.ValidateTaskType(taskType); err != nil {
		return script{}, fmt.Errorf("%w: %w", errNone, err)
	}
	// The root follows no link that leads out of it.
	fi, err := root.Stat(taskType)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return script{}, errNone
	case err != nil:
		return script{}, fmt.Errorf("script %s: %w", taskType, err)
	case !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0:
		return script{}, fmt.Errorf("script %s: %w: it is not an executable file", taskType, errNone)
	}
	path := filepath.Join(root.Name(), taskType)
	if err := trust.CheckInfo(path, fi); err != nil {
		return script{}, err
	}
	can, err := readHeader(root, taskType)
	if err != nil {
		return script{}, err
	}
	return script{path: path, abilities: can}, nil
}

// list returns the task types for which there is a script, and the reasons for
// which others are not listed.
func (d directory) list() (types []string, problems []error) {
	root, err := d.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []error{fmt.Errorf("script directory: %w", err)}
	}
	defer func() { _ = root.Close() }()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, []error{fmt.Errorf("list the script directory: %w", err)}
	}
	for _, e := range entries {
		switch _, err := find(root, e.Name()); {
		case err == nil:
			types = append(types, e.Name())
		case !errors.Is(err, errNone):
			problems = append(problems, err)
		}
	}
	return types, problems
}

// headerBytes is how far into a script its header is looked for.
const headerBytes = 4096

var header = regexp.MustCompile(`(?m)^\s*(?:#|//|--|;)\s*tasker:(.*)$`)

// readHeader reads what a script says of itself.
func readHeader(root *os.Root, name string) (abilities, error) {
	can := abilities{restart: handlers.RestartNever}
	f, err := root.Open(name)
	if err != nil {
		return can, fmt.Errorf("script %s: %w", name, err)
	}
	defer f.Close()
	buf := make([]byte, headerBytes)
	n, err := f.Read(buf)
	if n == 0 && err != nil {
		return can, nil // An empty file has none.
	}
	found := header.FindSubmatch(buf[:n])
	if found == nil {
		return can, nil
	}
	values := map[string][]string{"restart": {"never", "retry", "resume"}, "plan": {"yes", "no"}, "undo": {"yes", "no"}}
	for _, setting := range strings.Fields(string(found[1])) {
		key, value, _ := strings.Cut(setting, "=")
		switch known, ok := values[key]; {
		case !ok:
			return can, fmt.Errorf("script %s: its line \"tasker:\" has the unknown setting %q; known are restart, plan and undo", name, setting)
		case !slices.Contains(known, value):
			return can, fmt.Errorf("script %s: its line \"tasker:\" has %q; %s is %s", name, setting, key, strings.Join(known, " or "))
		case key == "restart":
			can.restart = handlers.Restart(value)
		case key == "plan":
			can.plan = value == "yes"
		case key == "undo":
			can.undo = value == "yes"
		}
	}
	return can, nil
}
