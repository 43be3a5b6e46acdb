// Package daemon is what the command lines of the two daemons have in common:
// where the configuration comes from, the logger, and the exit codes.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/MatthiasWiesner/tasker/config"
)

// The exit codes.
const (
	ExitFailed = 1
	// ExitUsage: the command line or the configuration is wrong.
	ExitUsage = 2
)

// errFailed marks errors of the work itself, as against those of its input.
type failedError struct{ err error }

func (e failedError) Error() string { return e.err.Error() }
func (e failedError) Unwrap() error { return e.err }

// Failed marks err as one that is not about the command line or configuration.
func Failed(err error) error {
	if err == nil {
		return nil
	}
	return failedError{err}
}

// Main runs a command until it ends or the process is told to stop, and returns
// the exit code. A second signal ends the process at once.
func Main(cmd *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(os.Stderr, "%s: %s\n", cmd.Name(), strings.TrimSpace(line))
	}
	var failed failedError
	if errors.As(err, &failed) {
		return ExitFailed
	}
	return ExitUsage
}

// AddSource adds the flags that say where the configuration comes from. Packaged is
// the file that the program's package installs.
func AddSource(cmd *cobra.Command, dir, packaged string) *config.Source {
	src := &config.Source{Packaged: packaged}
	cmd.PersistentFlags().StringVar(&src.File, "config", "", "configuration `file` (default: "+packaged+" where there is one)")
	cmd.PersistentFlags().StringVar(&src.Mode, "mode", "",
		"instead: which "+dir+"/<mode>.config.yaml to read, here or as shipped (development, the default elsewhere, or production)")
	return src
}

// NewLogger makes the logger that the configuration asks for.
func NewLogger(c config.Log, out *os.File) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo // the configuration was checked
	}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	if c.Format == "text" || c.Format == "auto" && term.IsTerminal(int(out.Fd())) { //nolint:gosec // a file descriptor fits
		return slog.New(slog.NewTextHandler(out, opts))
	}
	return slog.New(slog.NewJSONHandler(out, opts))
}

// readable writes durations with their unit, in JSON too.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// VersionCommand prints the version and what the program was built with.
func VersionCommand(version string) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s (%s, %s/%s)\n", cmd.Root().Name(), version, goVersion(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

func goVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.GoVersion
	}
	return runtime.Version()
}
