package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tasker": main})
}

// TestScripts runs the scripts in testdata/alone, which need no control plane.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/alone",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits,
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
	})
}

// exits runs a program and checks its exit code: exits CODE PROGRAM ARGS…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		var found bool
		if got, found = strings.CutPrefix(err.Error(), "exit status "); !found {
			ts.Fatalf("%v", err)
		}
	}
	if got != args[0] {
		ts.Fatalf("%s exited with %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// eventually runs a program until its output matches a pattern: eventually PATTERN PROGRAM ARGS…
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually PATTERN PROGRAM ARGS…")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	const timeout, pause = 60 * time.Second, 20 * time.Millisecond
	deadline := time.After(timeout)
	for {
		_ = ts.Exec(args[1], args[2:]...) // only the output matters
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		select {
		case <-time.After(pause):
		case <-deadline:
			ts.Fatalf("%s does not print %s", strings.Join(args[1:], " "), args[0])
		}
	}
}

func TestVersionIsPrinted(t *testing.T) {
	t.Parallel()
	out, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if code := run([]string{"version"}, strings.NewReader(""), out, out); code != codeSucceeded {
		t.Errorf("exit code %d", code)
	}
	if got, err := os.ReadFile(out.Name()); err != nil || !strings.HasPrefix(string(got), "tasker "+version) {
		t.Errorf("got %q, %v", got, err)
	}
}
