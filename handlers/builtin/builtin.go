// Package builtin makes the handlers that come with tasker: for the agent from
// its options, and for the control plane, which only checks payloads, their
// descriptions.
package builtin

import (
	"log/slog"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/command"
	"github.com/MatthiasWiesner/tasker/handlers/facts"
	"github.com/MatthiasWiesner/tasker/handlers/ping"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/script"
	"github.com/MatthiasWiesner/tasker/handlers/upgrade"
)

// Options are what the built-in handlers need of an agent.
type Options struct {
	// Allow is the allow-list of the handler command.
	Allow [][]string
	// Scripts is the directory of the handler script.
	Scripts string
	// Runner runs the processes of both.
	Runner *process.Runner
	// Units is where the handler upgrade-agent keeps what must outlive the agent.
	Units string
	Log   *slog.Logger
}

// New makes the handlers.
func New(o Options) ([]handlers.Handler, error) {
	cmd, err := command.New(command.Options{Allow: o.Allow, Runner: o.Runner})
	if err != nil {
		return nil, err
	}
	return []handlers.Handler{
		ping.New(),
		facts.New(),
		cmd,
		script.New(script.Options{Directory: o.Scripts, Runner: o.Runner, Log: o.Log}),
		upgrade.New(upgrade.Options{Dir: o.Units, Grace: o.Runner.Grace, Log: o.Log}),
	}, nil
}

// Infos describes the handlers: their names, and the schemas of their payloads.
func Infos() []handlers.Info {
	return []handlers.Info{ping.New().Info(), facts.New().Info(), command.Info(), script.Info(), upgrade.Info()}
}
