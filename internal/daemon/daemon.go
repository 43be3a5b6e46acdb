// Package daemon contains the common parts of the command lines of both daemons: the flags
// of the configuration, the logger, and the exit codes.
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
	"github.com/MatthiasWiesner/tasker/internal/commandline"
)

// The exit codes.
const (
	ExitFailed = 1
	// ExitUsage means that the command line or the configuration is invalid.
	ExitUsage = 2
)

// failedError is an error that is not caused by the command line or the configuration.
type failedError struct{ err error }

func (e failedError) Error() string { return e.err.Error() }
func (e failedError) Unwrap() error { return e.err }

// Failed marks an error that is not caused by the command line or the configuration. The
// exit code is then ExitFailed.
func Failed(err error) error {
	if err == nil {
		return nil
	}
	return failedError{err}
}

// Main runs a command until it ends or the process receives SIGINT or SIGTERM, and returns
// the exit code. A second signal ends the process at once.
func Main(cmd *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	commandline.RejectEmptyFlags(cmd)
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

// AddSource adds the flags that select the configuration. Packaged is the file that the
// package of the program installs.
func AddSource(cmd *cobra.Command, dir, packaged string) *config.Source {
	src := &config.Source{Packaged: packaged}
	cmd.PersistentFlags().StringVar(&src.File, "config", "", "configuration `file` (default: "+packaged+" if it exists)")
	cmd.PersistentFlags().StringVar(&src.Mode, "mode", "",
		"read "+dir+"/<mode>.config.yaml instead, from the working directory or as shipped: development (the default without a package) or production")
	return src
}

// NewLogger returns the logger that the configuration describes.
func NewLogger(c config.Log, out *os.File) *slog.Logger {
	log, _ := NewLeveledLogger(c, out)
	return log
}

// NewLeveledLogger returns the logger that the configuration describes, and its level,
// which SetLevel changes.
func NewLeveledLogger(c config.Log, out *os.File) (*slog.Logger, *slog.LevelVar) {
	level := &slog.LevelVar{}
	SetLevel(level, c)
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: formatDuration}
	if c.Format == "text" || c.Format == "auto" && term.IsTerminal(int(out.Fd())) { //nolint:gosec // a file descriptor fits
		return slog.New(slog.NewTextHandler(out, opts)), level
	}
	return slog.New(slog.NewJSONHandler(out, opts)), level
}

// SetLevel sets the level of a logger to that of a configuration that has been checked.
func SetLevel(level *slog.LevelVar, c config.Log) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.Level)); err == nil {
		level.Set(l)
	}
}

// formatDuration formats durations with their units, also in JSON.
func formatDuration(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// VersionCommand returns the command that prints the version and the version of Go.
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
