package service

import (
	"context"
	"encoding/hex"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker/handlers/systemd"
)

// State is the state of a unit, in the terms of systemd.
type State struct {
	// Active is active, reloading, inactive, failed, activating or deactivating.
	Active string `json:"active"`
	// Sub is a finer state that depends on the kind of unit, like running or exited.
	Sub string `json:"sub,omitempty"`
	// Enabled is the state of the unit's file, like enabled, disabled, static or masked.
	Enabled string `json:"enabled,omitempty"`
	// PID is the main process, or 0 if there is none.
	PID uint32 `json:"pid,omitempty"`
}

func (s State) active() bool { return s.Active == "active" || s.Active == "reloading" }

// String returns the state like "active (running)".
func (s State) String() string {
	if s.Sub == "" || s.Sub == s.Active {
		return s.Active
	}
	return s.Active + " (" + s.Sub + ")"
}

// unitState is a State and the other properties of a unit that the handler needs.
type unitState struct {
	State
	// load is loaded, not-found, masked and so on. loadError explains it.
	load, loadError string
	// serviceType is the Type= of a service, and empty for other units.
	serviceType string
	// result is the result of the last run, like success, exit-code or timeout.
	result string
	// code and status are the exit of the main process, as in siginfo_t.
	code, status int32
	// invocation identifies the current or last run.
	invocation string
	// restarts counts the automatic restarts since the last start.
	restarts uint32
	// hasJob reports whether systemd has a queued or running job for the unit.
	hasJob bool
	// needsDaemonReload reports whether the unit's file has changed since systemd read it.
	needsDaemonReload            bool
	canStart, canStop, canReload bool
	startTimeout                 time.Duration
}

func stateOf(ctx context.Context, c *systemd.Conn, unit string) (unitState, error) {
	p, err := c.Properties(ctx, unit)
	if err != nil {
		return unitState{}, err
	}
	s := unitState{
		State: State{
			Active:  systemd.Get[string](p, "ActiveState"),
			Sub:     systemd.Get[string](p, "SubState"),
			Enabled: systemd.Get[string](p, "UnitFileState"),
			PID:     systemd.Get[uint32](p, "MainPID"),
		},
		load:              systemd.Get[string](p, "LoadState"),
		serviceType:       systemd.Get[string](p, "Type"),
		result:            systemd.Get[string](p, "Result"),
		code:              systemd.Get[int32](p, "ExecMainCode"),
		status:            systemd.Get[int32](p, "ExecMainStatus"),
		invocation:        hex.EncodeToString(systemd.Get[[]byte](p, "InvocationID")),
		restarts:          systemd.Get[uint32](p, "NRestarts"),
		hasJob:            p.HasJob(),
		needsDaemonReload: systemd.Get[bool](p, "NeedDaemonReload"),
		canStart:          systemd.Get[bool](p, "CanStart"),
		canStop:           systemd.Get[bool](p, "CanStop"),
		canReload:         systemd.Get[bool](p, "CanReload"),
		startTimeout:      time.Duration(min(systemd.Get[uint64](p, "TimeoutStartUSec"), 1<<50)) * time.Microsecond,
	}
	if e := systemd.Get[[]any](p, "LoadError"); len(e) > 1 {
		s.loadError, _ = e[1].(string)
	}
	return s, nil
}

// loadProblem explains why a unit that is not loaded cannot be used, and how to fix that.
func (s unitState) loadProblem() string {
	switch s.load {
	case "not-found":
		return "there is no unit of that name on this server; list the units with `systemctl list-unit-files`"
	case "masked":
		return "it is masked; unmask it on the server with `systemctl unmask`"
	}
	return fmt.Sprintf("its load state is %s: %s; check its file with `systemd-analyze verify`", s.load, s.loadError)
}

// mainExit describes the exit of the main process. It returns "" if no process has ended.
func (s unitState) mainExit() string {
	// The codes of siginfo_t: CLD_EXITED, CLD_KILLED, CLD_DUMPED.
	switch s.code {
	case 1:
		return fmt.Sprintf("its process ended with exit code %d", s.status)
	case 2, 3:
		return "its process was killed by " + unix.SignalName(syscall.Signal(s.status))
	}
	return ""
}
