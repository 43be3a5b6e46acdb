// Command tasker is the command line of a control plane: it creates, shows and watches
// tasks, and lists the endpoints. It calls the API with package client.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/MatthiasWiesner/tasker/client"
)

// version is set when the program is built.
var version = "development"

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs the program and returns its exit code.
func run(args []string, stdin io.Reader, stdout, stderr *os.File) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	a := &app{printer: printer{out: stdout, err: stderr, env: os.LookupEnv}, in: stdin}
	cmd := newRoot(a)
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	ran, err := cmd.ExecuteContextC(ctx)
	if err == nil {
		return codeSucceeded
	}
	var end *exitError
	if !errors.As(err, &end) {
		end = &exitError{code: codeOf(ctx, err), err: err}
	}
	if end.err != nil {
		fmt.Fprintf(stderr, "tasker: %s\n", strings.TrimSpace(end.err.Error()))
	}
	if hint := a.hint(end.err); hint != "" {
		fmt.Fprintf(stderr, "  %s\n", hint)
	}
	if end.usage {
		fmt.Fprintf(stderr, "Run '%s --help' for usage.\n", ran.CommandPath())
	}
	return end.code
}

// The exit codes.
const (
	codeSucceeded   = 0
	codeFailed      = 1
	codeUsage       = 2
	codeIncomplete  = 3
	codeCancelled   = 4
	codeUnreachable = 5
	codeInterrupted = 130
)

const exitCodes = `Exit codes:
  0    done; after waiting for a task: every endpoint succeeded
  1    the task failed on at least one endpoint
  2    the command line, the configuration or the request is wrong
  3    the task is incomplete: at least one endpoint did not receive it in time
  4    the task was cancelled
  5    the control plane cannot be reached, or cannot serve the request now
  130  interrupted; the task continues`

// exitError ends the program with a code.
type exitError struct {
	code int
	// err is printed, unless it is nil.
	err error
	// usage is true if the command line is wrong; how to get help is then printed too.
	usage bool
}

// Error returns the message of err.
func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

// Unwrap returns err.
func (e *exitError) Unwrap() error { return e.err }

// usage returns the error of a wrong command line.
func usage(format string, args ...any) error {
	return &exitError{code: codeUsage, err: fmt.Errorf(format, args...), usage: true}
}

// codeOf returns the exit code of an error without one.
func codeOf(ctx context.Context, err error) int {
	switch {
	case ctx.Err() != nil:
		return codeInterrupted
	case errors.Is(err, client.ErrUnreachable):
		return codeUnreachable
	default:
		return codeUsage
	}
}
