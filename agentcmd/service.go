package agentcmd

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/internal/daemon"
	"github.com/MatthiasWiesner/tasker/internal/sysservice"
)

// unitText is a copy of the unit file that packages install.
//
//go:embed tasker-agent.service
var unitText string

// serviceCommand manages a systemd unit for this program, at its current path. The service
// reads the configuration file of --config, or that of the packages.
func serviceCommand(src *config.Source) *cobra.Command {
	cmd := sysservice.Command(func() (*sysservice.Unit, error) {
		program, err := os.Executable()
		if err == nil {
			program, err = filepath.EvalSymlinks(program)
		}
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		o := sysservice.UnitOptions{Name: "tasker-agent", Text: unitText, Program: program}
		if src.File != "" {
			if o.Config, err = filepath.Abs(src.File); err != nil {
				return nil, fmt.Errorf("find the configuration: %w", err)
			}
		}
		return sysservice.NewUnit(o)
	})
	for _, sub := range cmd.Commands() {
		run := sub.RunE
		sub.RunE = func(cmd *cobra.Command, args []string) error { return daemon.Failed(run(cmd, args)) }
	}
	return cmd
}
