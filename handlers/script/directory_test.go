package script_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

func TestScriptsListsOnlySafeScripts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if got := f.Scripts(); len(got) != 0 {
		t.Errorf("an empty directory lists %v", got)
	}
	const sh = "#!/bin/sh\necho ran\n"
	for _, name := range []string{"b", "update-app", "deploy.sh"} {
		f.write(name, sh, 0o755)
	}
	refused := map[string]string{
		"group-writable": "chmod go-w", "other-writable": "chmod go-w", "bad-header": "unknown setting", "bad-restart": "restart is never", "bad-undo": "undo is yes or no",
		"outside": "escapes", "absolute": "escapes",
	}
	f.write("group-writable", sh, 0o775)
	f.write("other-writable", sh, 0o757)
	f.write("bad-header", "#!/bin/sh\n# tasker: timeout=3\n", 0o755)
	f.write("bad-undo", "#!/bin/sh\n# tasker: undo\n", 0o755)
	f.write("bad-restart", "#!/bin/sh\n# tasker: restart=always\n", 0o755)
	f.write("not-executable", sh, 0o644)
	f.write(".hidden", sh, 0o755)
	f.write("UPPER", sh, 0o755)
	f.write("endpoints", sh, 0o755)
	if err := os.Mkdir(filepath.Join(f.dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(f.dir), "foreign"), []byte(sh), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"inside": "b", "outside": "../foreign", "absolute": "/bin/true", "dangling": "nothing",
	} {
		if err := os.Symlink(target, filepath.Join(f.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	runnable := []string{"b", "deploy.sh", "inside", "update-app"}
	if got := f.Scripts(); !slices.Equal(got, runnable) {
		t.Errorf("got %v, want %v", got, runnable)
	}
	for name, why := range refused {
		if !strings.Contains(f.log.String(), name) {
			t.Errorf("no log line names %s:\n%s", name, f.log)
		}
		got := f.run(t.Context(), name, `{}`)
		var reject *handlers.RejectError
		if !errors.As(got.err, &reject) || !strings.Contains(got.err.Error(), why) || got.out != "" {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	for _, name := range []string{
		"not-executable", ".hidden", "UPPER", "endpoints", "folder", "dangling", "none", "", ".", "..", "../foreign", "folder/../b", "/bin/true",
	} {
		got := f.run(t.Context(), name, `{}`)
		var reject *handlers.RejectError
		if !errors.As(got.err, &reject) || got.out != "" {
			t.Errorf("%q: got %+v", name, got)
		}
	}
	logged := f.log.Len()
	f.Scripts()
	if f.log.Len() != logged {
		t.Error("the same problems were logged again")
	}
}

func TestScriptsThatTheKernelCannotRunAreListedAndRejectTasks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.write("windows", "#!/bin/sh\r\n# tasker: plan=yes\r\necho ran\r\n", 0o755)
	f.write("windows-env", "#!/usr/bin/env bash\r\necho ran\r\n", 0o755)
	f.write("marked", "\ufeff#!/bin/sh\necho ran\n", 0o755)
	if got := f.Scripts(); !slices.Equal(got, []string{"marked", "windows", "windows-env"}) {
		t.Errorf("got %v", got)
	}
	for name, why := range map[string]string{
		"windows":     `names the interpreter "/bin/sh\r": the file has Windows line ends (CRLF)`,
		"windows-env": `names the interpreter "/usr/bin/env bash\r"`,
		"marked":      "byte order mark (BOM)",
	} {
		if !strings.Contains(f.log.String(), "script "+name+" cannot be run") {
			t.Errorf("no log line names %s:\n%s", name, f.log)
		}
		for _, action := range []tasker.Action{tasker.Perform, tasker.DryRun, tasker.Undo} {
			got := f.call(t.Context(), action, name, `{}`)
			var reject *handlers.RejectError
			if !errors.As(got.err, &reject) || !strings.Contains(got.err.Error(), why) || got.out != "" {
				t.Errorf("%s: got %+v", name, got)
			}
		}
	}
}

func TestScriptsIgnoresUnsafeDirectory(t *testing.T) {
	t.Parallel()
	t.Run("missing", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		if err := os.Remove(f.dir); err != nil {
			t.Fatal(err)
		}
		if got := f.Scripts(); len(got) != 0 || f.log.Len() > 0 {
			t.Errorf("got %v, %s", got, f.log)
		}
	})
	for name, mode := range map[string]os.FileMode{"by its group": 0o775, "by others": 0o757, "sticky": 0o777 | os.ModeSticky} {
		t.Run("writable "+name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.write("a", "#!/bin/sh\n", 0o755)
			if err := os.Chmod(f.dir, mode); err != nil {
				t.Fatal(err)
			}
			if got := f.Scripts(); len(got) != 0 || !strings.Contains(f.log.String(), "chmod go-w") {
				t.Errorf("got %v, %s", got, f.log)
			}
		})
	}
	t.Run("parent writable", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.write("a", "#!/bin/sh\n", 0o755)
		if err := os.Chmod(filepath.Dir(f.dir), 0o777); err != nil {
			t.Fatal(err)
		}
		if got := f.Scripts(); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("foreign file", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() != 0 {
			t.Skip("only root can create files of another user")
		}
		f := newFixture(t)
		f.write("a", "#!/bin/sh\n", 0o755)
		f.write("b", "#!/bin/sh\n", 0o755)
		if err := os.Chown(filepath.Join(f.dir, "a"), 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if got := f.Scripts(); !slices.Equal(got, []string{"b"}) || !strings.Contains(f.log.String(), "belongs to user 65534") {
			t.Errorf("got %v, %s", got, f.log)
		}
		if err := os.Chown(f.dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if got := f.Scripts(); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	})
}

func TestRestartContract(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, tt := range map[string]struct {
		text string
		want handlers.Restart
	}{
		"none":    {"#!/bin/sh\n", handlers.RestartNever},
		"empty":   {"", handlers.RestartNever},
		"retry":   {"#!/bin/sh\n\n# tasker: restart=retry\n", handlers.RestartRetry},
		"resume":  {"#!/usr/bin/env node\n// tasker: restart=resume\n", handlers.RestartResume},
		"never":   {"#!/usr/bin/lua\n-- tasker:restart=never\n", handlers.RestartNever},
		"late":    {"#!/bin/sh\n" + strings.Repeat("#\n", 4096) + "# tasker: restart=retry\n", handlers.RestartNever},
		"no-line": {"#!/bin/sh\necho '# tasker: restart=retry'\n", handlers.RestartNever},
	} {
		f.write(name, tt.text, 0o755)
		if got := f.RestartOf(name); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
	if got := f.RestartOf("missing"); got != handlers.RestartNever {
		t.Errorf("missing: got %s", got)
	}
}
