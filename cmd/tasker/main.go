// Command tasker speaks to a control plane: it creates tasks, shows and watches
// what becomes of them on each endpoint, and lists the endpoints.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
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

// run is the whole program; it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr *os.File) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	a := &app{in: stdin, out: stdout, err: stderr, env: os.LookupEnv}
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
		fmt.Fprintf(stderr, "Run '%s --help' for what is possible.\n", ran.CommandPath())
	}
	return end.code
}

// hint says of a request that was refused for its token what to do about it.
func (a *app) hint(err error) string {
	var refused *client.Problem
	if !errors.As(err, &refused) {
		return ""
	}
	switch unauthorized := refused.Status == http.StatusUnauthorized; {
	case a.closed != "" && (unauthorized || refused.Status == http.StatusBadRequest):
		return fmt.Sprintf("this user may not read %s, where a control plane on this machine keeps its URL and its token: run tasker as root, or set TASKER_URL and TASKER_TOKEN", a.closed)
	case unauthorized && a.tokenFrom != "":
		return "the token is from " + a.tokenFrom
	case unauthorized:
		return "no token was sent: set TASKER_TOKEN; tasker --help says where else it is looked for"
	}
	return ""
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
  0    done; for a task that was waited for: every endpoint succeeded
  1    the task failed on at least one endpoint
  2    the command line, the configuration or the request is wrong
  3    the task is incomplete: at least one endpoint did not receive it in time
  4    the task was cancelled
  5    the control plane cannot be reached, or cannot answer now
  130  interrupted; a task goes on without you`

// exitError ends the program with a code.
type exitError struct {
	code int
	// err is told; nil is silent.
	err error
	// usage: the command line is wrong, so the way to the help is told too.
	usage bool
}

// Error is what is told.
func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

// Unwrap returns what is told.
func (e *exitError) Unwrap() error { return e.err }

// usage is an error in the command line.
func usage(format string, args ...any) error {
	return &exitError{code: codeUsage, err: fmt.Errorf(format, args...), usage: true}
}

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
