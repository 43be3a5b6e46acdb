package service

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
)

func TestStartAndRestart(t *testing.T) {
	t.Parallel()
	const settle = 5 * time.Second // enough for a slow machine to run the short programs
	tests := map[string]struct {
		file string
		// failure has parts of the error; nil means success.
		failure []string
	}{
		"good":      {shell("exec sleep 86415"), nil},
		"ready":     {shell("sleep 0.3; systemd-notify --ready; sleep 86415", "Type=notify", "NotifyAccess=all"), nil},
		"oneshot":   {shell("echo done", "Type=oneshot"), nil},
		"remains":   {shell("echo done", "Type=oneshot", "RemainAfterExit=yes"), nil},
		"dies":      {shell("echo no database >&2; exit 3"), []string{"its process ended with exit code 3 (exit-code); it is failed now", "no database"}},
		"ends":      {shell("echo bye"), []string{"without a failure", "bye"}},
		"dies-late": {shell("sleep 0.4; echo gone; exit 4"), []string{"did not stay active: its process ended with exit code 4", "gone"}},
		"killed":    {shell("kill -9 $$$$"), []string{"its process was killed by SIGKILL (signal)"}},
		"loops":     {shell("echo again; exit 5", "Restart=always", "RestartSec=50ms", "StartLimitIntervalSec=0"), []string{"systemd starts it again", "again"}},
		"loops-slow": {
			shell("echo again; exit 5", "Restart=always", "RestartSec=20s"),
			[]string{"did not ", "its process ended with exit code 5 (exit-code), and systemd starts it again and again; it is activating (auto-restart) now"},
		},
		"never-ready": {
			shell("echo waiting; sleep 86415", "Type=notify", "TimeoutStartSec=5s"),
			[]string{"did not become active: it did not report that it is ready within its start timeout of 5s; find out what", "waiting"},
		},
		"not-ready":    {shell("exit 0", "Type=notify"), []string{"did not report that it is ready, as Type=notify requires"}},
		"oneshot-dies": {shell("exit 6", "Type=oneshot"), []string{"did not become active: its process ended with exit code 6"}},
		"needs":        {"[Unit]\nRequires=tt-broken.service\nAfter=tt-broken.service\n" + shell("sleep 86415"), []string{"a unit that it needs has failed; see `systemctl list-dependencies tt-needs.service`"}},
		"unmet":        {"[Unit]\nConditionPathExists=/nonexistent\n" + shell("sleep 86415"), []string{"check the conditions in its file", "ConditionPathExists=/nonexistent"}},
		"no-program":   {"[Service]\nExecStart=/nonexistent\n", []string{"its process ended with exit code 203"}},
	}
	files := map[string]string{"tt-broken.service": shell("exit 1", "Type=oneshot")}
	for name, tt := range tests {
		files["tt-"+name+".service"] = tt.file
	}
	writeUnits(t, files)
	// The subtests end before the units are removed.
	t.Run("all", func(t *testing.T) {
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				m, unit := Manager{Settle: settle}, "tt-"+name+".service"
				for _, apply := range []func(context.Context, string) error{m.Start, m.Restart} {
					err := apply(t.Context(), unit)
					if tt.failure == nil {
						if err != nil {
							t.Error(err)
						}
						continue
					}
					var failed *FailedError
					if !errors.As(err, &failed) {
						t.Fatalf("got %v, want a FailedError", err)
					}
					for _, want := range tt.failure {
						if !strings.Contains(err.Error(), want) {
							t.Errorf("got  %v\nwant …%s…", err, want)
						}
					}
				}
				s, err := m.State(t.Context(), unit)
				if want := tt.failure == nil && name != "oneshot"; name != "loops" && (err != nil || s.active() != want) {
					t.Errorf("it is %s, %v; want active %v", s, err, want)
				}
			})
		}
	})
}

func TestStartOfUnknownUnit(t *testing.T) {
	t.Parallel()
	writeUnits(t, nil)
	if err := new(Manager).Start(t.Context(), "tt-nowhere.service"); err == nil || !strings.Contains(err.Error(), "tt-nowhere.service cannot be started: there is no unit of that name") {
		t.Errorf("got %v", err)
	}
	if s, err := new(Manager).State(t.Context(), "tt-nowhere.service"); s.active() || err == nil {
		t.Errorf("the state is %s, %v", s, err)
	}
}

func TestStartReturnsWhenTheTaskTimesOut(t *testing.T) {
	t.Parallel()
	writeUnits(t, map[string]string{"tt-slow.service": shell("echo waiting; sleep 86415", "Type=notify", "TimeoutStartSec=1h")})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, handlers.ErrTimedOut)
	defer cancel()
	err := new(Manager).Start(ctx, "tt-slow.service")
	if !errors.Is(err, handlers.ErrTimedOut) || !strings.Contains(err.Error(), "tt-slow.service did not become active in that time; it is activating (start) now") || !strings.Contains(err.Error(), "waiting") {
		t.Errorf("got %v", err)
	}
}

func TestRestartReadsTheChangedFile(t *testing.T) {
	t.Parallel()
	writeUnits(t, map[string]string{"tt-edited.service": shell("exit 1")})
	m := Manager{Settle: 5 * time.Second}
	if err := m.Restart(t.Context(), "tt-edited.service"); err == nil {
		t.Fatal("the unit with the old file started")
	}
	edit(t, "tt-edited.service", shell("exec sleep 86415"))
	if err := m.Restart(t.Context(), "tt-edited.service"); err != nil {
		t.Error(err)
	}
	if s, err := m.State(t.Context(), "tt-edited.service"); !s.active() || err != nil {
		t.Errorf("the state is %s, %v", s, err)
	}
}
