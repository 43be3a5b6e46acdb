// Package builtin returns the handlers that come with tasker. The agent builds them from
// its options. The control plane needs only their descriptions, to check payloads.
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

// Options configure the built-in handlers of an agent.
type Options struct {
	// AllowCommands is the allow-list of the handler command. The handler file may run the
	// same commands.
	AllowCommands []command.Entry
	// AllowServices is the allow-list of the handler service. The handler artifact may
	// restart the same units.
	AllowServices []string
	// AllowFiles, AllowPackages and AllowArtifacts are the allow-lists of the handlers
	// file, package and artifact.
	AllowFiles, AllowPackages, AllowArtifacts []string
	// ArtifactSources and ArtifactTokenFiles are the places from which the handler artifact
	// may fetch releases, and the token files that it may use for them.
	ArtifactSources, ArtifactTokenFiles []string
	// ScriptDir is the directory of the handler script.
	ScriptDir string
	// UnitDir is the directory in which the handlers upgrade-agent and package keep the
	// state of their transient units.
	UnitDir string
	// SnapshotDir is the directory in which each handler keeps its snapshots.
	SnapshotDir string
	// Runner runs the processes of the handlers.
	Runner *process.Runner
	Log    *slog.Logger
}

// New returns the built-in handlers.
func New(o Options) ([]handlers.Handler, error) {
	snapshots := func(name string) *snapshot.Store { return snapshot.New(filepath.Join(o.SnapshotDir, name)) }
	commands, err := command.New(command.Options{Allow: o.AllowCommands, Runner: o.Runner, Snapshots: snapshots(command.Name)})
	if err != nil {
		return nil, err
	}
	files, err := file.New(file.Options{
		Allow: o.AllowFiles, Commands: o.AllowCommands, Runner: o.Runner, Snapshots: snapshots(file.Name),
	})
	if err != nil {
		return nil, err
	}
	packages, err := ospackage.New(ospackage.Options{
		Allow: o.AllowPackages, Runner: o.Runner, Units: o.UnitDir, Snapshots: snapshots(ospackage.Name), Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	services, err := service.New(service.Options{Allow: o.AllowServices, Snapshots: snapshots(service.Name), Log: o.Log})
	if err != nil {
		return nil, err
	}
	artifacts, err := artifact.New(artifact.Options{
		Allow: o.AllowArtifacts, Sources: o.ArtifactSources, TokenFiles: o.ArtifactTokenFiles, Runner: o.Runner, Snapshots: snapshots(artifact.Name),
		Units: units{Manager: &service.Manager{Settle: service.DefaultSettle}, Allow: o.AllowServices},
	})
	if err != nil {
		return nil, err
	}
	scripts := script.New(script.Options{
		Directory: o.ScriptDir, Runner: o.Runner, Snapshots: snapshots(tasker.ScriptHandler), Log: o.Log,
	})
	upgrades := upgrade.New(upgrade.Options{Dir: o.UnitDir, Grace: o.Runner.Grace, Log: o.Log})
	return []handlers.Handler{
		ping.New(), facts.New(), commands, files, scripts, upgrades, packages, services, artifacts,
	}, nil
}

// units lets the handler artifact restart the units that the handler service may restart.
type units struct {
	*service.Manager
	service.Allow
}

// Infos returns the descriptions of the built-in handlers.
func Infos() []handlers.Info {
	return []handlers.Info{
		ping.New().Info(), facts.New().Info(), command.Info(), file.Info(), script.Info(), upgrade.Info(),
		ospackage.Info(), service.Info(), artifact.Info(),
	}
}
