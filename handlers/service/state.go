package service

import (
	"context"
	"encoding/hex"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// State is how a unit is, in the words of systemd.
type State struct {
	// Active is active, reloading, inactive, failed, activating or deactivating.
	Active string `json:"active"`
	// Sub is more precise and depends on the kind of unit, like running or exited.
	Sub string `json:"sub,omitempty"`
	// Enabled is enabled, disabled, static, masked and so on.
	Enabled string `json:"enabled,omitempty"`
	// PID is the main process; 0 is none.
	PID uint32 `json:"pid,omitempty"`
}

func (s State) active() bool { return s.Active == "active" || s.Active == "reloading" }

// String is "active (running)".
func (s State) String() string {
	if s.Sub == "" || s.Sub == s.Active {
		return s.Active
	}
	return s.Active + " (" + s.Sub + ")"
}

// unitState is what the handler has to know of a unit.
type unitState struct {
	State
	// load is loaded, not-found, masked and so on, and complaint why.
	load, complaint string
	// kind is the Type= of a service, empty for other units.
	kind string
	// result is how it ended, like success, exit-code or timeout.
	result string
	// code and status are how the main process ended, as in siginfo_t.
	code, status int32
	// invocation differs with each start.
	invocation string
	// restarts counts those that systemd has done by itself since the last start.
	restarts uint32
	// busy: systemd is at something with it.
	busy bool
	// outdated: its file has changed since systemd has read it.
	outdated                  bool
	canStart, canStop, reload bool
	startTimeout              time.Duration
}

// show asks systemd how a unit is.
func (c *conn) show(ctx context.Context, name string) (unitState, error) {
	// systemd lets callers wait while it reads the files of all units again.
	ctx, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	p, err := c.GetAllPropertiesContext(ctx, name)
	if err != nil {
		return unitState{}, fmt.Errorf("ask systemd how %s is: %w", name, err)
	}
	s := unitState{
		State: State{
			Active: get[string](p, "ActiveState"), Sub: get[string](p, "SubState"),
			Enabled: get[string](p, "UnitFileState"), PID: get[uint32](p, "MainPID"),
		},
		load: get[string](p, "LoadState"), kind: get[string](p, "Type"), result: get[string](p, "Result"),
		code: get[int32](p, "ExecMainCode"), status: get[int32](p, "ExecMainStatus"),
		invocation: hex.EncodeToString(get[[]byte](p, "InvocationID")), restarts: get[uint32](p, "NRestarts"),
		outdated: get[bool](p, "NeedDaemonReload"),
		canStart: get[bool](p, "CanStart"), canStop: get[bool](p, "CanStop"), reload: get[bool](p, "CanReload"),
		startTimeout: time.Duration(min(get[uint64](p, "TimeoutStartUSec"), 1<<50)) * time.Microsecond,
	}
	if job := get[[]any](p, "Job"); len(job) > 0 {
		id, _ := job[0].(uint32)
		s.busy = id != 0
	}
	if e := get[[]any](p, "LoadError"); len(e) > 1 {
		s.complaint, _ = e[1].(string)
	}
	return s, nil
}

// get returns a property, or zero if the kind of unit has none of that name.
func get[T any](p map[string]any, name string) T {
	v, _ := p[name].(T)
	return v
}

// unusable says why a unit that is not loaded cannot be used, and what to do.
func (s unitState) unusable() string {
	switch s.load {
	case "not-found":
		return "there is no unit of that name on this server; `systemctl list-unit-files` lists those there are"
	case "masked":
		return "it is masked; on the server: systemctl unmask"
	}
	return fmt.Sprintf("systemd calls it %s: %s; correct its file, `systemd-analyze verify` says more", s.load, s.complaint)
}

// exit says how the main process ended, and is empty where it did not.
func (s unitState) exit() string {
	// The codes of siginfo_t: CLD_EXITED, CLD_KILLED, CLD_DUMPED.
	switch s.code {
	case 1:
		return fmt.Sprintf("its process ended with exit code %d", s.status)
	case 2, 3:
		return "its process was killed by " + unix.SignalName(syscall.Signal(s.status))
	}
	return ""
}
