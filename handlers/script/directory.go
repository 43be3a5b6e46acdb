package script

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// directory is where the scripts are. Every use looks at it anew, so that a
// script can be added and removed while the agent runs.
type directory string

// errNone: there is no such script, which is no reason for a warning.
var errNone = errors.New("there is no such script")

// script is one that may be run.
type script struct {
	path    string
	restart handlers.Restart
}

// open checks the directory and those above it.
func (d directory) open() (*os.Root, error) {
	// The way to it is checked as it really is.
	dir, err := filepath.EvalSymlinks(string(d))
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	for at := dir; ; at = filepath.Dir(at) {
		fi, err := os.Stat(at)
		if err != nil {
			return nil, err
		}
		if !fi.IsDir() {
			return nil, fmt.Errorf("%s is no directory", at)
		}
		// Nobody can replace what is not his own in a sticky directory.
		if at == dir || fi.Mode()&fs.ModeSticky == 0 {
			if err := trusted(at, fi); err != nil {
				return nil, err
			}
		}
		if at == "/" {
			break
		}
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
	if err := trusted(path, fi); err != nil {
		return script{}, err
	}
	restart, err := readRestart(root, taskType)
	if err != nil {
		return script{}, err
	}
	return script{path: path, restart: restart}, nil
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

// trusted says whether only root and the agent's user can change a file.
func trusted(path string, fi fs.FileInfo) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner cannot be told", path)
	}
	if st.Uid != 0 && int64(st.Uid) != int64(os.Geteuid()) {
		return fmt.Errorf("%s belongs to user %d: it must belong to root or to the agent's user (chown root %s)", path, st.Uid, path)
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s can be written by its group or by others (chmod go-w %s)", path, path)
	}
	return nil
}

// headerBytes is how far into a script its header is looked for.
const headerBytes = 4096

var header = regexp.MustCompile(`(?m)^\s*(?:#|//|--|;)\s*tasker:(.*)$`)

// readRestart reads the restart contract of a script.
func readRestart(root *os.Root, name string) (handlers.Restart, error) {
	f, err := root.Open(name)
	if err != nil {
		return "", fmt.Errorf("script %s: %w", name, err)
	}
	defer f.Close()
	buf := make([]byte, headerBytes)
	n, err := f.Read(buf)
	if n == 0 && err != nil {
		return handlers.RestartNever, nil // An empty file has none.
	}
	restart := handlers.RestartNever
	found := header.FindSubmatch(buf[:n])
	if found == nil {
		return restart, nil
	}
	for _, setting := range strings.Fields(string(found[1])) {
		switch key, value, _ := strings.Cut(setting, "="); {
		case key != "restart":
			return "", fmt.Errorf("script %s: its line \"tasker:\" has the unknown setting %q; known is restart", name, setting)
		case value != string(handlers.RestartNever) && value != string(handlers.RestartRetry) && value != string(handlers.RestartResume):
			return "", fmt.Errorf("script %s: its line \"tasker:\" has %q; restart is never, retry or resume", name, setting)
		default:
			restart = handlers.Restart(value)
		}
	}
	return restart, nil
}
