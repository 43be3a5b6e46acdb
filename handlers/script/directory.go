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
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/trust"
)

// directory is the path of the script directory. It is read again for every use, so that
// scripts can be added and removed while the agent runs.
type directory string

// errNotFound is returned for a task type without a script. Scripts does not warn of it.
var errNotFound = errors.New("there is no such script")

// script is an executable that may be run.
type script struct {
	path string
	header
}

// header has the settings in the header comment of a script.
type header struct {
	restart handlers.Restart
	// canDryRun and canUndo report whether the script may be run for these actions.
	canDryRun, canUndo bool
	// format is the reason why the kernel cannot run the script, or nil. The agent announces
	// such a script: a task that it rejects with the reason is better than a missing one.
	format error
}

// open opens the directory if only trusted users can change it. It returns errNotFound if the
// directory does not exist.
func (d directory) open() (*os.Root, error) {
	dir, err := trust.CheckDir(string(d))
	var root *os.Root
	if err == nil {
		root, err = os.OpenRoot(dir)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errNotFound
	case err != nil:
		return nil, fmt.Errorf("script directory: %w", err)
	}
	return root, nil
}

// find returns the script for a task type.
func (d directory) find(taskType string) (script, error) {
	root, err := d.open()
	if err != nil {
		return script{}, err
	}
	defer func() { _ = root.Close() }()
	return find(root, taskType)
}

func find(root *os.Root, taskType string) (script, error) {
	if err := tasker.ValidateTaskType(taskType); err != nil {
		return script{}, fmt.Errorf("%w: %w", errNotFound, err)
	}
	// os.Root does not follow links that lead out of it.
	fi, err := root.Stat(taskType)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return script{}, errNotFound
	case err != nil:
		return script{}, fmt.Errorf("script %s: %w", taskType, err)
	case !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0:
		return script{}, fmt.Errorf("script %s: %w: it is not an executable file", taskType, errNotFound)
	}
	path := filepath.Join(root.Name(), taskType)
	if err := trust.CheckInfo(path, fi); err != nil {
		return script{}, err
	}
	h, err := readHeader(root, taskType)
	if err != nil {
		return script{}, err
	}
	return script{path: path, header: h}, nil
}

// list returns the task types that have a script, and the problems of the files that look
// like a script but cannot be run.
func (d directory) list() (types []string, problems []error) {
	root, err := d.open()
	if errors.Is(err, errNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, []error{err}
	}
	defer func() { _ = root.Close() }()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, []error{fmt.Errorf("list the script directory: %w", err)}
	}
	for _, e := range entries {
		switch s, err := find(root, e.Name()); {
		case err == nil:
			types = append(types, e.Name())
			if s.format != nil {
				problems = append(problems, s.format)
			}
		case !errors.Is(err, errNotFound):
			problems = append(problems, err)
		}
	}
	return types, problems
}

// headerBytes is the size of the beginning of a script that may contain the header.
const headerBytes = 4096

var headerLine = regexp.MustCompile(`(?m)^\s*(?:#|//|--|;)\s*tasker:(.*)$`)

// readHeader reads the header of a script.
func readHeader(root *os.Root, name string) (header, error) {
	h := header{restart: handlers.RestartNever}
	f, err := root.Open(name)
	if err != nil {
		return h, fmt.Errorf("script %s: %w", name, err)
	}
	defer f.Close()
	buf := make([]byte, headerBytes)
	n, err := f.Read(buf)
	if n == 0 && err != nil {
		return h, nil // The file is empty.
	}
	if err := process.CheckHead(buf[:n]); err != nil {
		h.format = fmt.Errorf("script %s cannot be run: %w", name, err)
	}
	line := headerLine.FindSubmatch(buf[:n])
	if line == nil {
		return h, nil
	}
	for _, setting := range strings.Fields(string(line[1])) {
		if err := h.set(setting); err != nil {
			return h, fmt.Errorf("script %s: header comment \"tasker:\": %w", name, err)
		}
	}
	return h, nil
}

// set applies a setting like restart=retry.
func (h *header) set(setting string) error {
	key, value, _ := strings.Cut(setting, "=")
	valid := []string{"yes", "no"}
	switch key {
	case "restart":
		valid = []string{"never", "retry", "resume"}
		h.restart = handlers.Restart(value)
	case "plan":
		h.canDryRun = value == "yes"
	case "undo":
		h.canUndo = value == "yes"
	default:
		return fmt.Errorf("unknown setting %q; the settings are restart, plan and undo", setting)
	}
	if !slices.Contains(valid, value) {
		return fmt.Errorf("%q is invalid; %s is %s", setting, key, strings.Join(valid, " or "))
	}
	return nil
}
