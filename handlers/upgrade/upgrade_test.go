package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/ospackage/pkgmanager"
	"github.com/MatthiasWiesner/tasker/handlers/transientunit"
)

func TestSchema(t *testing.T) {
	t.Parallel()
	schema, err := handlers.CompileSchema(Info().Schema)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ payload, want string }{
		{``, ""},
		{`{}`, ""},
		{`{"version":"1.2.3"}`, ""},
		{`{"version":"1:1.2.3~rc1-1"}`, ""},
		{`{"file":"/var/cache/tasker agent_1.deb"}`, ""},
		{`{"version":"v1.2.3"}`, "payload.version: is "},
		{`{"version":"1.2.3 --force"}`, "payload.version: is "},
		{`{"version":"-o=x"}`, "payload.version: is "},
		{`{"version":""}`, "payload.version: is "},
		{`{"version":"1*"}`, "payload.version: is "},
		{`{"file":"tasker.deb"}`, "payload.file: is "},
		{`{"file":"/etc/passwd"}`, "payload.file: is "},
		{`{"version":"1","file":"/x.deb"}`, "payload: has 2 fields, but must have at most 1"},
		{`{"to":"1"}`, "payload.to: is not known"},
		{`{"version":1}`, "payload.version: must be a string"},
	}
	for _, tt := range tests {
		t.Run(tt.payload, func(t *testing.T) {
			t.Parallel()
			err := schema.Validate(json.RawMessage(tt.payload))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// The program of a test belongs to no package, and systemd may not run here: the handler
// rejects the task, and starts nothing.
func TestRejectWithoutPackage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "units")
	for _, action := range []tasker.Action{tasker.Perform, tasker.DryRun} {
		_, err := New(Options{Dir: dir}).Handle(t.Context(), handlers.Call{TaskID: "t", Attempt: 1, Action: action})
		var reject *handlers.RejectError
		if !errors.As(err, &reject) || !strings.HasPrefix(reject.Reason, "the agent cannot upgrade itself: ") {
			t.Errorf("%q: got %v, want a rejection", action, err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s was created (%v)", dir, err)
	}
}

func TestCheckFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("none"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Mkdir(filepath.Join(dir, "d.deb"), 0o700); err != nil {
		t.Fatal(err)
	}
	agent := installation{tool: pkgmanager.Apt(), pkg: "tasker-agent"}
	tests := map[string]struct{ file, want string }{
		"of another manager": {"/x.rpm", "is not the absolute path of a .deb"},
		"no such file":       {filepath.Join(dir, "away.deb"), "there is no "},
		"directory":          {filepath.Join(dir, "d.deb"), "is not a regular file"},
		"writable by all":    {file("open.deb", 0o666), "is writable by its group or by others"},
	}
	if os.Geteuid() == 0 {
		tests["not a package"] = struct{ file, want string }{file("bad.deb", 0o600), "is not a package"}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := agent.check(t.Context(), Payload{File: tt.file})
			var reject *handlers.RejectError
			if !errors.As(err, &reject) || !strings.Contains(reject.Reason, tt.want) {
				t.Errorf("got %v, want a rejection with %q", err, tt.want)
			}
		})
	}
}

func TestUpgradeResult(t *testing.T) {
	t.Parallel()
	old, done := pkgmanager.State{Version: "1.0.0-1", Complete: true, Status: "installed"}, pkgmanager.State{Version: "1.1.0-1", Complete: true, Status: "installed"}
	half := pkgmanager.State{Version: "1.1.0-1", Status: "half-configured"}
	killed := transientunit.Exit{Signal: "SIGTERM", Result: "success"}
	tests := map[string]struct {
		result upgradeResult
		want   string
	}{
		"upgraded":                 {upgradeResult{after: done, wanted: "1.1.0"}, ""},
		"to the newest":            {upgradeResult{after: done}, ""},
		"nothing newer":            {upgradeResult{after: old}, ""},
		"by its whole version":     {upgradeResult{after: done, wanted: "1.1.0-1"}, ""},
		"failed":                   {upgradeResult{after: old, exit: transientunit.Exit{Code: 100}}, "the package manager failed with exit code 100; p is at version 1.0.0"},
		"another version":          {upgradeResult{after: old, wanted: "1.1.0"}, "p is at version 1.0.0, not 1.1.0"},
		"broken":                   {upgradeResult{after: half}, "p is at version 1.1.0 and not completely installed (half-configured)"},
		"broken and wanted":        {upgradeResult{after: half, wanted: "1.1.0"}, "p is at version 1.1.0 and not completely installed (half-configured), not 1.1.0"},
		"lost but installed":       {upgradeResult{after: done, wanted: "1.1.0", err: transientunit.ErrLost}, ""},
		"lost but newer":           {upgradeResult{after: done, err: transientunit.ErrLost}, ""},
		"lost":                     {upgradeResult{after: old, err: transientunit.ErrLost}, "the package manager was interrupted: how the command ended is not known; p is at version 1.0.0"},
		"lost midway":              {upgradeResult{after: half, wanted: "1.1.0", err: transientunit.ErrLost}, "the package manager was interrupted: how the command ended is not known; p is at version 1.1.0 and not completely installed (half-configured)"},
		"killed":                   {upgradeResult{after: old, exit: killed}, "the package manager was interrupted: killed by SIGTERM (success); p is at version 1.0.0"},
		"killed after the end":     {upgradeResult{after: done, exit: killed}, ""},
		"cancelled":                {upgradeResult{after: old, exit: killed, err: handlers.ErrCancelled}, "cancelled"},
		"cancelled midway":         {upgradeResult{after: half, exit: killed, err: handlers.ErrCancelled}, "cancelled; p is at version 1.1.0 and not completely installed (half-configured)"},
		"not restarted":            {upgradeResult{after: done, replaced: true}, "p is at version 1.1.0, but the agent was not restarted and still runs the old program; on the server: systemctl restart p"},
		"reinstalled and replaced": {upgradeResult{after: old, replaced: true}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.result.pkg, tt.result.from = "p", "1.0.0-1"
			if got := tt.result.check(); fmt.Sprint(got) != tt.want && (got != nil || tt.want != "") {
				t.Errorf("got  %v\nwant %s", got, tt.want)
			}
		})
	}
}
