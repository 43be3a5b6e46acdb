package command_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/command"
)

func TestEntriesPermitEnvCwdStdinAndCreates(t *testing.T) {
	t.Parallel()
	all := command.Entry{
		Argv: []string{"/bin/true"}, Env: []string{"A", "LD_PRELOAD"}, Cwd: []string{"/usr", "/srv/*"}, Stdin: true,
		Creates: []string{"/srv/*/made"},
	}
	plain := command.Entry{Argv: []string{"/bin/true"}}
	const rejected = "but not the payload's env, cwd, stdin or creates with it"
	tests := []struct {
		name    string
		allow   []command.Entry
		payload string
		want    string // of the rejection; "" if the command may run
	}{
		{"nothing is set", []command.Entry{plain}, ``, ""},
		{"env", []command.Entry{plain}, `,"env":{"MAKEFILES":"/tmp/x"}`, `as {"argv":["/bin/true"],"env":["MAKEFILES"]}`},
		{"proxy", []command.Entry{plain}, `,"env":{"https_proxy":"http://evil"}`, rejected},
		{"cwd", []command.Entry{plain}, `,"cwd":"/tmp"`, `as {"argv":["/bin/true"],"cwd":["/tmp"]}`},
		{"stdin", []command.Entry{plain}, `,"stdin":"x"`, `as {"argv":["/bin/true"],"stdin":true}`},
		{"creates", []command.Entry{plain}, `,"creates":"/root/.ssh"`, `as {"argv":["/bin/true"],"creates":["/root/.ssh"]}`},
		{"permitted", []command.Entry{all}, `,"env":{"A":"1"},"cwd":"/usr","stdin":"x","creates":"/srv/a/made"`, ""},
		{"a later entry permits it", []command.Entry{plain, all}, `,"env":{"A":"1"}`, ""},
		{"another variable", []command.Entry{all}, `,"env":{"A":"1","B":"1"}`, rejected},
		{"another directory", []command.Entry{all}, `,"cwd":"/srv/a/b"`, rejected},
		{"another path", []command.Entry{all}, `,"creates":"/srv/made"`, rejected},
		{"a dangerous variable in the configuration", []command.Entry{all}, `,"env":{"LD_PRELOAD":"/tmp/x"}`, "payload.env.LD_PRELOAD: is refused"},
		{"the commands beside argv", []command.Entry{all, {Argv: []string{"/bin/false"}}}, `,"env":{"A":"1"},"unless":["/bin/false"]`, `as {"argv":["/bin/false"],"env":["A"]}`},
		{"creates concerns argv only", []command.Entry{all, {Argv: []string{"/bin/false"}}}, `,"creates":"/srv/a/made","unless":["/bin/false"]`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			mux, err := newEntryMux(t, tt.allow...)
			if err != nil {
				t.Fatal(err)
			}
			payload := `{"argv":["true"],"undo":["true"]` + tt.payload + `}`
			if strings.Contains(tt.name, "creates") || strings.Contains(tt.name, "beside") {
				payload = `{"argv":["true"]` + tt.payload + `}`
			}
			for _, action := range []tasker.Action{tasker.DryRun, tasker.Perform} {
				_, _, err := callAction(t, mux, action, payload)
				var reject *handlers.RejectError
				var invalid *handlers.PayloadError
				if tt.want == "" && err != nil || tt.want != "" && (!errors.As(err, &reject) && !errors.As(err, &invalid) || !strings.Contains(err.Error(), tt.want)) {
					t.Errorf("%s: got %v, want %q", action, err, tt.want)
				}
			}
		})
	}
}

func TestNewRefusesInvalidPathsOfAnEntry(t *testing.T) {
	t.Parallel()
	for _, entry := range []command.Entry{
		{Argv: []string{"/bin/true"}, Cwd: []string{"srv"}},
		{Argv: []string{"/bin/true"}, Cwd: []string{"/srv/"}},
		{Argv: []string{"/bin/true"}, Creates: []string{"/srv/["}},
	} {
		if _, err := newEntryMux(t, entry); err == nil || !strings.Contains(err.Error(), "handlers.command: allow[0]") {
			t.Errorf("%+v: %v", entry, err)
		}
	}
}
