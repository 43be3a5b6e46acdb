package service

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// units writes files of units, which are stopped and gone when the test has ended.
// Tests of units need root and a systemd; the hosts of test/hosts have both.
func units(t *testing.T, files map[string]string) {
	t.Helper()
	if _, err := os.Lstat("/run/systemd/system"); err != nil || os.Geteuid() != 0 {
		t.Skip("systemd is not running here, or this is not root")
	}
	for name, text := range files {
		path := filepath.Join("/etc/systemd/system", name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // systemd complains of other modes
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if !strings.Contains(name, "@.") {
				systemd(t, "disable", name)
				systemd(t, "stop", name)
			}
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		})
	}
	systemd(t, "reload")
}

// systemd does something with a unit, whatever becomes of it.
func systemd(t *testing.T, verb string, unit ...string) {
	t.Helper()
	c, err := connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	// The test's own context is done when the cleanups run.
	ctx := t.Context()
	if ctx.Err() != nil {
		ctx = context.Background()
	}
	ended := make(chan string, 1)
	switch verb {
	case "reload":
		err = c.ReloadContext(ctx)
		ended <- ""
	case "disable":
		_, err = c.DisableUnitFilesContext(ctx, unit, false)
		ended <- ""
	case "stop":
		_, err = c.StopUnitContext(ctx, unit[0], "replace", ended)
		if err != nil && strings.Contains(err.Error(), "not loaded") {
			return // Its file is none that could be started.
		}
	case "start":
		_, err = c.StartUnitContext(ctx, unit[0], "replace", ended)
	}
	if err != nil {
		t.Fatalf("%s %v: %v", verb, unit, err)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatalf("%s %v does not end", verb, unit)
	}
}

// shell is the file of a unit that runs a shell script.
func shell(script string, more ...string) string {
	return "[Service]\nExecStart=/bin/sh -c '" + script + "'\n" + strings.Join(more, "\n") + "\n[Install]\nWantedBy=multi-user.target\n"
}

// edit changes the file of a unit behind systemd's back.
func edit(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("/etc/systemd/system", name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // systemd complains of other modes
		t.Fatal(err)
	}
	// systemd goes by the time of change.
	later := time.Now().Add(2 * time.Second)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
}
