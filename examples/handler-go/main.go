// Command handler-go is tasker-agent with one more handler, disk-usage.
//
// Build the program with CGO_ENABLED=0 go build and run it instead of tasker-agent. In the
// control plane's configuration, add disk-usage to handlers and to task_types.
package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/MatthiasWiesner/tasker/agentcmd"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// payload is the payload of a task of this type.
type payload struct {
	Directories []string `json:"directories" jsonschema:"absolute paths of the directories to measure"`
}

// result is the result of a task: the size of each directory.
type result struct {
	Changed bool             `json:"changed"`
	Bytes   map[string]int64 `json:"bytes"`
}

func main() {
	// Main must be called first: the program is also the supervisor of the processes
	// that it starts.
	os.Exit(agentcmd.Main("1.0", handlers.Typed(handlers.Info{
		Name:    "disk-usage",
		Summary: "Adds up the sizes of the files below directories.",
		Restart: handlers.RestartRetry,
	}, diskUsage)))
}

func diskUsage(ctx context.Context, p payload, call handlers.Call) (handlers.Result, error) {
	r := result{Bytes: map[string]int64{}}
	for i, dir := range p.Directories {
		if !filepath.IsAbs(dir) {
			return handlers.Result{}, handlers.Reject("directories[%d]: %q is not an absolute path", i, dir)
		}
		call.Progress(100*float64(i)/float64(len(p.Directories)), dir)
		size, err := sizeOf(ctx, dir)
		if err != nil {
			return handlers.Result{}, fmt.Errorf("measure %s: %w", dir, err)
		}
		r.Bytes[dir] = size
	}
	return handlers.Result{Value: r}, nil
}

// sizeOf returns the total size of the regular files below dir. When ctx is done, sizeOf
// returns the cause of ctx as its error.
func sizeOf(ctx context.Context, dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		return nil
	})
	return size, err
}
