//go:build linux

// Command tasker-bench measures a control plane under a fleet of simulated agents on
// this machine.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/MatthiasWiesner/tasker/tools/bench/fleetbench"
)

const usage = `Start a control plane and a fleet of simulated agents, create tasks, and report how
long they take. The agents run their real code, from link to journal, in this
process; their handler does nothing. The vhost, the user, the database and
everything else made for the run are removed at the end.

With --raw a plain loop without tasker is measured in the same run: as many
messages to as many queues, answered and stored in the same database. Compare the
ratios of two machines, not their times.

Usage:
  tasker-bench [flags]

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "tasker-bench: %v\n", err)
		os.Exit(1)
	}
}

// settings are the flags of one run.
type settings struct {
	options   fleetbench.Options
	endpoints []int
	json      bool
	profile   string
	plot      string
}

func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	flags := pflag.NewFlagSet("tasker-bench", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage, flags.FlagUsages()) }
	o := &s.options
	flags.IntSliceVar(&s.endpoints, "endpoints", []int{100}, "number of agents; several numbers are measured one after the other")
	flags.IntVar(&o.Tasks, "tasks", 5, "number of tasks")
	flags.BoolVar(&o.Spread, "spread", false, "create all tasks at once, each for one endpoint, instead of one after the other for all endpoints")
	flags.IntVar(&o.Payload, "payload", 1024, "size of a task's payload in bytes")
	flags.DurationVar(&o.Sleep, "sleep", 0, "time that the handler sleeps, such as 1s")
	flags.DurationVar(&o.Idle, "idle", 0, "measure the connected, idle agents for this time, such as 30s")
	flags.DurationVar(&o.Outage, "outage", 0, "disconnect the agents for this time, such as 5s, and measure how they reconnect")
	flags.BoolVar(&o.Raw, "raw", false, "also measure the plain loop")
	flags.BoolVar(&s.json, "json", false, "print one line of JSON for each number of endpoints")
	flags.StringVar(&s.plot, "plot", "", "plot time against endpoints into this file (.svg or .png)")
	flags.IntVar(&o.PerConnection, "per-connection", 0, "number of agents that share a connection to RabbitMQ (default: one connection each up to 500 agents)")
	flags.BoolVar(&o.HTTP, "http", false, "connect the agents to the control plane over HTTP, with SQLite as its database")
	flags.StringVar(&s.profile, "profile", "", "write a CPU profile of the agents into this file")
	flags.StringVar(&o.RabbitMQ, "rabbitmq", fleetbench.DefaultRabbitMQ, "RabbitMQ's management API, with an administrator's credentials")
	flags.StringVar(&o.AMQP, "amqp", fleetbench.DefaultAMQP, "RabbitMQ's AMQP address, host:port")
	flags.StringVar(&o.MySQL, "mysql", fleetbench.DefaultMySQL, "the database server, with a user who may create databases")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q: run tasker-bench --help", flags.Arg(0))
	}
	self, err := os.Executable()
	if err != nil {
		return s, fmt.Errorf("find the programs: %w", err)
	}
	o.Programs = filepath.Dir(self)
	o.Logf = func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }
	return s, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	s, err := parse(args, stderr)
	if err != nil {
		return err
	}
	stop, err := startProfile(s.profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	// The kernel ends a child when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// All agents share one heap here; on real servers each has its own.
	debug.SetGCPercent(400)
	results, err := measure(ctx, s, stdout)
	if err != nil {
		return err
	}
	if s.plot != "" {
		if err := fleetbench.Plot(s.plot, results); err != nil {
			return err
		}
	}
	if s.json {
		return nil
	}
	return fleetbench.Table(stdout, results)
}

// measure runs the benchmark once for each number of endpoints.
func measure(ctx context.Context, s settings, stdout io.Writer) ([]fleetbench.Result, error) {
	var results []fleetbench.Result
	for _, s.options.Endpoints = range s.endpoints {
		r, err := fleetbench.Run(ctx, s.options)
		if err != nil {
			return nil, fmt.Errorf("measure %d endpoints: %w", s.options.Endpoints, err)
		}
		results = append(results, r)
		if s.json {
			if err := json.NewEncoder(stdout).Encode(r); err != nil {
				return nil, fmt.Errorf("write the result: %w", err)
			}
		}
	}
	return results, nil
}

// startProfile starts a CPU profile unless path is empty. stop ends and closes it.
func startProfile(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("create the profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("start the profile: %w", err), f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
