package artifact_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/artifact"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// TestMain also lets the test binary act as the supervisor of processes, and as an agent
// that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "supervise":
			syscall.Exit(process.Supervise(os.Args[2:]))
		case "killed":
			syscall.Exit(runKilledAgent(os.Args[2], os.Args[3], os.Args[4]))
		}
	}
	goleak.VerifyTestMain(m)
}

// server is a server with one application. All of its files are below one directory.
type server struct {
	home string
	mux  *handlers.Mux
}

// app is the directory of the application; running is the file with the version that the
// unit runs.
func (s *server) app() string     { return filepath.Join(s.home, "app") }
func (s *server) running() string { return filepath.Join(s.home, "running") }

func newServer(home string) (*server, error) {
	s := &server{home: home}
	return s, s.allow(nil)
}

// allow allows further sources, and the token files that are needed for them.
func (s *server) allow(sources []string, tokenFiles ...string) error {
	h, err := artifact.New(artifact.Options{
		Allow:      []string{s.app()},
		Sources:    append([]string{"file://" + s.home + "/mirror", "file:///no", "https://tasker.invalid"}, sources...),
		TokenFiles: tokenFiles,
		Units:      units{s},
		Runner:     &process.Runner{Grace: 200 * time.Millisecond, Log: slog.New(slog.DiscardHandler)},
		Snapshots:  snapshot.New(filepath.Join(s.home, "before")),
	})
	if err != nil {
		return err
	}
	s.mux, err = handlers.NewMux(h)
	return err
}

// units is a service manager with one unit, which runs the release that is current when
// it is restarted.
type units struct{ s *server }

func (u units) CheckAllowed(unit string) error {
	if unit != "app.service" {
		return handlers.Reject("add %q to handlers.service.allow", unit)
	}
	return nil
}

func (u units) CheckLoaded(_ context.Context, unit string) error {
	if _, err := os.Stat(filepath.Join(u.s.home, "masked")); err == nil {
		return fmt.Errorf("the unit %s cannot be used: it is masked", unit)
	}
	return nil
}

func (u units) Restart(ctx context.Context, unit string) error {
	if err := u.Stop(ctx, unit); err != nil {
		return err
	}
	version, err := os.ReadFile(filepath.Join(u.s.app(), "current", "VERSION"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(u.s.app(), "current", "broken")); err == nil {
		return errors.New("app.service did not become active; the last of its journal:\nsegmentation fault")
	}
	return os.WriteFile(u.s.running(), version, 0o600)
}

func (u units) Stop(context.Context, string) error {
	if err := os.Remove(u.s.running()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (u units) Journal(context.Context, string, time.Time) []string {
	return []string{"panic:", "out of cheese"}
}

// payload creates a release of files by their names, and returns the payload that deploys
// it. All releases contain the programs for hooks and the health check.
func (s *server) payload(version string, files map[string]string) map[string]any {
	all := map[string]string{
		"VERSION":     version,
		"bin/healthy": "#!/bin/sh\ntest ! -e unhealthy && test \"$(cat \"$1\")\" = \"$VERSION\"\n",
		"bin/hook":    "#!/bin/sh\necho \"$1 $VERSION $RELEASE $PWD $TASKER_TASK_ID\"\ntest ! -e \"fails-$1\"\n",
	}
	maps.Copy(all, files)
	content := pack(all)
	path := filepath.Join(s.home, "mirror", version+".tar.gz")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o600)); err != nil {
		panic(err)
	}
	u := url.URL{Scheme: "file", Path: path}
	return map[string]any{
		"url": u.String(), "sha256": sum(content), "version": version, "directory": s.app(), "unit": "app.service",
		"hooks":  map[string]any{"before": []string{"bin/hook", "before"}, "after": []string{"bin/hook", "after"}},
		"health": map[string]any{"command": []string{"bin/healthy", s.running()}, "retries": 1, "interval": "10ms", "timeout": "1m"},
	}
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

func pack(files map[string]string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(files[name]))}
		if target, ok := strings.CutPrefix(files[name], "-> "); ok {
			h = &tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
		}
		err := w.WriteHeader(h)
		if err == nil && h.Size > 0 {
			_, err = w.Write([]byte(files[name]))
		}
		if err != nil {
			panic(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// call is one call of the handler; the zero Action performs the task.
type call struct {
	task    string
	action  tasker.Action
	undoes  string
	payload map[string]any
	attempt int
	// progress is called with each progress message.
	progress func(message string)
}

// result is the result of a call.
type result struct {
	artifact.Outcome
	output string
	err    error
}

func (s *server) do(ctx context.Context, c call) result {
	payload, err := json.Marshal(c.payload)
	if err != nil {
		panic(err)
	}
	if err := s.mux.Validate(artifact.Name, payload); err != nil {
		return result{err: err}
	}
	h, _ := s.mux.Lookup(artifact.Name)
	var output bytes.Buffer
	r, err := h.Handle(ctx, handlers.Call{
		TaskID: c.task, Endpoint: "test-" + filepath.Base(s.home), Type: artifact.Name, Attempt: max(1, c.attempt),
		Payload: payload, Action: c.action, Undoes: c.undoes, Output: &output,
		Progress: func(_ float64, message string) {
			if c.progress != nil {
				c.progress(message)
			}
		},
		RecordProcess: func(handlers.Process) error { return nil },
	})
	outcome, _ := r.Value.(artifact.Outcome)
	return result{outcome, output.String(), err}
}

// runKilledAgent performs a call in a process that kills itself when it reports its nth
// progress.
func runKilledAgent(home, nth, request string) int {
	s, err := newServer(home)
	if err != nil {
		panic(err)
	}
	remaining, err := strconv.Atoi(nth)
	if err != nil {
		panic(err)
	}
	var r struct {
		Task, Undoes string
		Action       tasker.Action
		Payload      map[string]any
	}
	if err := json.Unmarshal([]byte(request), &r); err != nil {
		panic(err)
	}
	a := s.do(context.Background(), call{task: r.Task, action: r.Action, undoes: r.Undoes, payload: r.Payload, progress: func(string) {
		if remaining--; remaining == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}})
	if a.err != nil {
		fmt.Fprintln(os.Stderr, a.err)
		return 1
	}
	return 0
}
