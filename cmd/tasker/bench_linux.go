package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker/cmd/tasker/bench"
)

func benchCommand(a *app) *cobra.Command {
	var o bench.Options
	var endpoints []int
	var asJSON bool
	var profile, plot string
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a control plane under a fleet of agents, on this machine",
		Long: `Start a control plane of its own and a fleet of simulated agents, hand them tasks and
say how long that took. The agents are the real ones, from link to journal, in this
process; their handler does nothing. The vhost, the user and the database that are
made for it, and everything else, are removed at the end.

` + "With --raw a plain loop without tasker is measured in the same run: as many\nmessages to as many queues, answered and stored in the same database. Compare the\nratios of two machines, not their times.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find the programs: %w", err)
			}
			o.Programs = filepath.Dir(self)
			o.Say = func(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }
			stop, err := startProfile(profile)
			if err != nil {
				return err
			}
			defer stop()
			// The kernel ends a child with the thread that started it.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			// A thousand agents have their garbage collected as one process.
			debug.SetGCPercent(400)
			var all []bench.Result
			for _, o.Endpoints = range endpoints {
				r, err := bench.Run(cmd.Context(), o)
				if err != nil {
					return fmt.Errorf("measure %d endpoints: %w", o.Endpoints, err)
				}
				all = append(all, r)
				if asJSON {
					if err := json.NewEncoder(a.out).Encode(r); err != nil {
						return fmt.Errorf("write the result: %w", err)
					}
				}
			}
			if plot != "" {
				if err := bench.Plot(plot, all); err != nil {
					return err
				}
			}
			if asJSON {
				return nil
			}
			return bench.Table(a.out, all)
		},
	}
	flags := cmd.Flags()
	flags.IntSliceVar(&endpoints, "endpoints", []int{100}, "how many agents; several numbers are measured one after the other")
	flags.IntVar(&o.Tasks, "tasks", 5, "how many tasks")
	flags.BoolVar(&o.Spread, "spread", false, "each task to one endpoint, all at once, instead of one after the other to all")
	flags.IntVar(&o.Payload, "payload", 1024, "the size of a task's payload in bytes")
	flags.DurationVar(&o.Sleep, "sleep", 0, "how long the handler sleeps, like "+time.Second.String())
	flags.DurationVar(&o.Idle, "idle", 0, "watch the connected agents do nothing for so long, like 30s")
	flags.DurationVar(&o.Outage, "outage", 0, "cut the agents off for so long, like 5s, and see how they come back")
	flags.BoolVar(&o.Raw, "raw", false, "measure the plain loop, too")
	flags.BoolVar(&asJSON, "json", false, "print a line of JSON for each number of endpoints")
	flags.StringVar(&plot, "plot", "", "draw time against endpoints into a file, .svg or .png")
	flags.IntVar(&o.PerConnection, "per-connection", 0, "how many agents share a connection to RabbitMQ (default: one each up to 500 agents)")
	flags.BoolVar(&o.HTTP, "http", false, "agents connect to the control plane, tasks are kept in SQLite")
	flags.StringVar(&profile, "profile", "", "write a CPU profile of the fleet into a file")
	flags.StringVar(&o.RabbitMQ, "rabbitmq", bench.DefaultRabbitMQ, "RabbitMQ's management API, with an administrator")
	flags.StringVar(&o.AMQP, "amqp", bench.DefaultAMQP, "RabbitMQ itself, as host:port")
	flags.StringVar(&o.MySQL, "mysql", bench.DefaultMySQL, "the database server, with a user who may make databases")
	return cmd
}

// startProfile begins a CPU profile, if there is a file for it.
func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("make the profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("begin the profile: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}
