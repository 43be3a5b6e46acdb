package service

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers/systemd"
)

// writeUnits writes the files of units, which are stopped and removed when the test ends.
// These tests need root and systemd; the hosts of test/hosts have both.
func writeUnits(t *testing.T, files map[string]string) {
	t.Helper()
	if !systemd.Running() || os.Geteuid() != 0 {
		t.Skip("systemd is not running here, or this is not root")
	}
	for name, text := range files {
		path := filepath.Join("/etc/systemd/system", name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // systemd warns of other modes
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if !strings.Contains(name, "@.") {
				do(t, "disable", name)
				do(t, "stop", name)
			}
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		})
	}
	do(t, "reload")
}

// do applies a verb to a unit and ignores the result of the job.
func do(t *testing.T, verb string, unit ...string) {
	t.Helper()
	c, err := systemd.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// t.Context is done when the cleanups run.
	ctx := t.Context()
	if ctx.Err() != nil {
		ctx = context.Background()
	}
	results := make(chan string, 1)
	switch verb {
	case "reload":
		err = c.ReloadContext(ctx)
		results <- ""
	case "disable":
		_, err = c.DisableUnitFilesContext(ctx, unit, false)
		results <- ""
	case "stop":
		_, err = c.StopUnitContext(ctx, unit[0], "replace", results)
		if err != nil && strings.Contains(err.Error(), "not loaded") {
			return // systemd could not load its file.
		}
	case "start":
		_, err = c.StartUnitContext(ctx, unit[0], "replace", results)
	}
	if err != nil {
		t.Fatalf("%s %v: %v", verb, unit, err)
	}
	select {
	case <-results:
	case <-time.After(time.Minute):
		t.Fatalf("%s %v takes too long", verb, unit)
	}
}

// shell returns the file of a unit that runs a shell script.
func shell(script string, more ...string) string {
	return "[Service]\nExecStart=/bin/sh -c '" + script + "'\n" + strings.Join(more, "\n") + "\n[Install]\nWantedBy=multi-user.target\n"
}

// edit changes the file of a unit without a reload of systemd.
func edit(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("/etc/systemd/system", name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // systemd warns of other modes
		t.Fatal(err)
	}
	// systemd compares the times of change.
	later := time.Now().Add(2 * time.Second)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
}
