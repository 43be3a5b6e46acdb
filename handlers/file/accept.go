package file

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers/process"
)

// accept runs the command that validates the new file.
func (j *job) accept(ctx context.Context) error {
	if j.validate == nil {
		return nil
	}
	argv := slices.Clone(j.validate)
	argv[slices.Index(argv, placeholder)] = filepath.Join(filepath.Dir(j.Path), j.at.temp())
	j.call.Progress(50, "validating it with "+argv[0])
	said := &process.Tail{Out: j.call.Output, Lines: 5}
	exit, err := j.runner.Run(ctx, process.Spec{
		Argv: argv, Env: process.Environ(j.call, nil), Stdout: said, Stderr: said, RecordProcess: j.call.RecordProcess,
	})
	if err == nil {
		err = exit.Err()
	}
	if err != nil {
		return fmt.Errorf("%s does not accept the new one: %w", strings.Join(j.validate, " "), said.Explain(err))
	}
	return nil
}
