// Package builtin makes the handlers that come with tasker: for the agent from
// its options, and for the control plane, which only checks payloads, their
// descriptions.
package builtin

import (
	"log/slog"
	"path/filepath"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/artifact"
	"github.com/MatthiasWiesner/tasker/handlers/command"
	"github.com/MatthiasWiesner/tasker/handlers/facts"
	"github.com/MatthiasWiesner/tasker/handlers/file"
	"github.com/MatthiasWiesner/tasker/handlers/ospackage"
	"github.com/MatthiasWiesner/tasker/handlers/ping"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/script"
	"github.com/MatthiasWiesner/tasker/handlers/service"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
	"github.com/MatthiasWiesner/tasker/handlers/upgrade"
)

// Options are what the built-in handlers need of an agent.
type Options struct {
	// Allow is the allow-list of the handler command.
	Allow [][]string
	// Files, Packages and Deploy are the allow-lists of the handlers file, package and
	// artifact, Services that of service and of the units that artifact may restart.
	Files, Packages, Services, Deploy []string
	// Scripts is the directory of the handler script.
	Scripts string
	// Runner runs the processes of handlers.
	Runner *process.Runner
	// Units is where the handlers upgrade-agent and package keep what must outlive the
	// agent.
	Units string
	// Before is where each handler keeps what was there before its tasks.
	Before string
	Log    *slog.Logger
}

// New makes the handlers.
func New(o Options) ([]handlers.Handler, error) {
	records := func(name string) *snapshot.Records { return snapshot.New(filepath.Join(o.Before, name)) }
	cmd, err := command.New(command.Options{Allow: o.Allow, Runner: o.Runner, Records: records(command.Name)})
	if err != nil {
		return nil, err
	}
	files, err := file.New(file.Options{Allow: o.Files, Commands: o.Allow, Runner: o.Runner, Records: records(file.Name)})
	if err != nil {
		return nil, err
	}
	pack, err := ospackage.New(ospackage.Options{
		Allow: o.Packages, Runner: o.Runner, Units: o.Units, Before: records(ospackage.Name), Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	services, err := service.New(service.Options{Allow: o.Services, Before: records(service.Name), Log: o.Log})
	if err != nil {
		return nil, err
	}
	deploy, err := artifact.New(artifact.Options{
		Allow: o.Deploy, Runner: o.Runner, Before: records(artifact.Name),
		Units: units{Manager: &service.Manager{Settle: service.DefaultSettle}, Allow: o.Services},
	})
	if err != nil {
		return nil, err
	}
	return []handlers.Handler{
		ping.New(),
		facts.New(),
		cmd,
		files,
		script.New(script.Options{Directory: o.Scripts, Runner: o.Runner, Records: records(tasker.ScriptHandler), Log: o.Log}),
		upgrade.New(upgrade.Options{Dir: o.Units, Grace: o.Runner.Grace, Log: o.Log}),
		pack,
		services,
		deploy,
	}, nil
}

// units are those that the handler artifact may restart: those of the handler service.
type units struct {
	*service.Manager
	service.Allow
}

// Infos describes the handlers: their names, and the schemas of their payloads.
func Infos() []handlers.Info {
	return []handlers.Info{
		ping.New().Info(), facts.New().Info(), command.Info(), file.Info(), script.Info(), upgrade.Info(),
		ospackage.Info(), service.Info(), artifact.Info(),
	}
}
