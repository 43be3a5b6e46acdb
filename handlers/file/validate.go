package file

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers/process"
)

// runValidation runs the command that validates the staged file, if the task names one.
func (a *assignment) runValidation(ctx context.Context) error {
	if a.validateArgv == nil {
		return nil
	}
	argv := slices.Clone(a.validateArgv)
	argv[slices.Index(argv, placeholder)] = filepath.Join(filepath.Dir(a.Path), a.target.tempName())
	a.call.Progress(50, "validating it with "+argv[0])
	output := process.NewOutput(a.call.Output, 5)
	exit, err := a.runner.Run(ctx, process.Spec{
		Argv: argv, Env: process.Environ(a.call, nil), Stdout: output.Stdout, Stderr: output.Stderr, RecordProcess: a.call.RecordProcess,
	})
	if err == nil {
		err = exit.Err()
	}
	a.note = exit.Remaining.Note()
	if err != nil {
		return fmt.Errorf("%s does not accept the new file: %w", strings.Join(a.validateArgv, " "), output.Explain(err))
	}
	return nil
}
