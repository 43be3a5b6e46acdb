package artifact

import (
	"context"
	"fmt"
	"path"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
)

// programs runs the programs of releases for hooks and health checks.
type programs struct {
	runner *process.Runner
	app    *appDir
	call   handlers.Call
}

// run runs a program of a release. It refuses a program that others can change.
func (p programs) run(ctx context.Context, version string, argv []string) error {
	release := releasesDir + "/" + version
	program := path.Join(release, argv[0])
	fi, err := p.app.root.Stat(program)
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not an executable file", p.app.pathOf(program))
	}
	for name := program; name != releasesDir; name = path.Dir(name) {
		if err := p.app.checkTrust(name); err != nil {
			return err
		}
	}
	output := process.NewOutput(p.call.Output, 2)
	exit, err := p.runner.Run(ctx, process.Spec{
		Argv: append([]string{p.app.pathOf(program)}, argv[1:]...),
		Env:  process.Environ(p.call, map[string]string{"VERSION": version, "RELEASE": p.app.pathOf(release)}),
		Dir:  p.app.pathOf(release), Stdout: output.Stdout, Stderr: output.Stderr, RecordProcess: p.call.RecordProcess,
	})
	if err == nil {
		err = exit.Err()
	}
	if note := exit.Remaining.Note(); note != "" {
		fmt.Fprintf(p.call.Output, "tasker-agent: %s %s\n", argv[0], note)
	}
	return output.Explain(err)
}
