package command

import (
	_ "embed"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// Name is the handler's name.
const Name = "command"

// Options configure the handler.
type Options struct {
	// Allow is the allow-list; see the package comment.
	Allow []Entry
	// Runner runs the commands.
	Runner *process.Runner
	// Snapshots records which tasks can be undone.
	Snapshots *snapshot.Store
}

// Payload is the payload of a task. DryRun, Undo and Unless are argument vectors like Argv: the
// allow-list must permit them, and they get the same Env, Cwd and Stdin.
type Payload struct {
	Argv    []string          `json:"argv"`
	Env     map[string]string `json:"env,omitempty"`
	Cwd     string            `json:"cwd,omitempty"`
	Stdin   string            `json:"stdin,omitempty"`
	Creates string            `json:"creates,omitempty"`
	Unless  []string          `json:"unless,omitempty"`
	DryRun  []string          `json:"plan,omitempty"`
	Undo    []string          `json:"undo,omitempty"`
}

// Outcome is the value of the result.
type Outcome struct {
	Changed bool `json:"changed"`
	// ExitCode is the exit code of the last program, if one was run.
	ExitCode *int `json:"exit_code,omitempty"`
	// DryRun reports whether the task was a dry run. Argv is then the command that the task
	// would run.
	DryRun bool     `json:"plan,omitempty"`
	Argv   []string `json:"argv,omitempty"`
	// Note explains why nothing was run, or describes the processes that the command left
	// running and that were ended.
	Note string `json:"note,omitempty"`
}

// New returns the handler. It returns an error that names an invalid entry of the allow-list.
func New(o Options) (handlers.Handler, error) {
	allow, err := NewAllowList(o.Allow)
	if err != nil {
		return nil, err
	}
	c := command{allow: allow, runner: o.Runner, snapshots: o.Snapshots}
	return handlers.Typed(Info(), c.handle), nil
}

//go:embed payload.schema.json
var payloadSchema []byte

// Info describes the handler.
func Info() handlers.Info {
	return handlers.Info{
		Name:         Name,
		Summary:      "Runs a program that the agent's allow-list names, without a shell.",
		CanDryRun:    true,
		CanUndo:      true,
		UndoRequires: "undo",
		Schema:       payloadSchema,
		Check:        handlers.CheckOf(checkPayload),
	}
}
