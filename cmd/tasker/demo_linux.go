package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker/client"
)

// updateApp is the script that the demo's task runs on each endpoint.
//
//go:embed demo/update-app
var updateApp []byte

const (
	demoType    = "update-app"
	demoPayload = `{"version": "2.4.1"}`
	// demoPatience is how long a program is given to start.
	demoPatience = 20 * time.Second
	// demoMost is how many endpoints it has at the most: each is a process.
	demoMost = 50
)

func demoCommand(a *app) *cobra.Command {
	var exit bool
	var on ground
	var endpoints int
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a control plane, some agents and a task on this machine",
		Long: `Start a control plane on its defaults (SQLite, agents over HTTP, loopback only) and
the agents loadbalancer-1, loadbalancer-2 … as processes of their own, hand them a
task, show its progress, say what to try next, and stay until Ctrl-C. Everything is
kept in a temporary directory, which is removed at the end.

` + exitCodes,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if endpoints < 1 || endpoints > demoMost {
				return usage("--endpoints: %d is not from 1 to %d", endpoints, demoMost)
			}
			return a.demo(cmd.Context(), on, demoEndpoints(endpoints), exit)
		},
	}
	cmd.Flags().IntVar(&endpoints, "endpoints", 2, "how many agents to start")
	cmd.Flags().BoolVar(&exit, "exit", false, "end after the task, with the exit code by its outcome")
	cmd.Flags().StringVar(&on.database, "database", "", "keep tasks in mysql://USER:PASSWORD@HOST:PORT/DATABASE; it is made if it is missing, and kept")
	cmd.Flags().StringVar(&on.messageQueue, "message-queue", "", "reach the agents over amqp://USER:PASSWORD@HOST:PORT/VHOST; both are made by guest if they are missing, and kept")
	return cmd
}

func demoEndpoints(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("loadbalancer-%d", i+1)
	}
	return names
}

// demo is one run of the demo.
type demo struct {
	*app
	endpoints []string

	fleet   *fleet
	sites   sites
	client  *client.Client
	token   string
	outcome error
}

func (a *app) demo(ctx context.Context, on ground, endpoints []string, exit bool) (err error) {
	// The kernel ends a child with the thread that started it, see fleet.start.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, hurry, release := impatience(ctx)
	defer release()
	ctx, ended := context.WithCancelCause(ctx)

	f, err := newFleet(on, ended)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.stop(hurry)) }()
	d := &demo{app: a, endpoints: endpoints, fleet: f}
	defer d.close()
	if err := d.start(ctx); err != nil {
		return d.interrupted(ctx, err)
	}
	if err := d.task(ctx); err != nil {
		return d.interrupted(ctx, err)
	}
	if exit {
		return d.outcome
	}
	d.say("\nEverything stays up until Ctrl-C.")
	<-ctx.Done()
	d.say("\nStopping.")
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// impatience returns a context that ends with the first signal and a channel that
// is closed with the second, so that a person never has to wait.
func impatience(ctx context.Context) (context.Context, <-chan struct{}, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals, hurry, done := make(chan os.Signal, 8), make(chan struct{}), make(chan struct{})
	// SIGPIPE: whoever read the output is gone.
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		defer close(done)
		stopping := false
		for s := range signals {
			if stopping && s != syscall.SIGPIPE {
				close(hurry)
				return
			}
			stopping = true
			cancel()
		}
	}()
	return ctx, hurry, func() {
		signal.Stop(signals)
		close(signals)
		<-done
		cancel()
	}
}

func (d *demo) close() {
	if d.client != nil {
		d.client.Close()
	}
}

// interrupted tells the end of ctx, if it has ended, from other errors.
func (d *demo) interrupted(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case cause == nil:
		return err
	case errors.Is(cause, context.Canceled):
		return &exitError{code: codeInterrupted}
	default:
		return cause
	}
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// start brings everything up.
func (d *demo) start(ctx context.Context) error {
	sites, err := chooseSites(d.endpoints)
	if err != nil {
		return err
	}
	d.sites = sites
	if err := d.fleet.configure(sites); err != nil {
		return err
	}
	d.say("tasker demo, in %s (removed at the end)", d.fleet.dir)
	for _, taken := range sites.taken {
		d.say("  port %s", taken)
	}

	if err := d.fleet.initialize(ctx); err != nil {
		return err
	}
	began := time.Now()
	cp, err := d.fleet.start("control plane", "tasker-controlplane", "controlplane.yaml")
	if err != nil {
		return err
	}
	if err := d.await(ctx, cp, func() error { return d.connect(ctx) }); err != nil {
		return err
	}
	d.say("  control plane   up after %s at %s", since(began), sites.url())
	return d.startAgents(ctx)
}

// connect calls the control plane with its token, which no other one that may
// have taken the port meanwhile accepts.
func (d *demo) connect(ctx context.Context) error {
	token, err := os.ReadFile(filepath.Join(d.fleet.dir, "controlplane", "admin.token"))
	if err != nil {
		return fmt.Errorf("read the token: %w", err)
	}
	c, err := client.New(client.Options{URL: d.sites.url(), Token: strings.TrimSpace(string(token)), UserAgent: "tasker/" + version})
	if err != nil {
		return err
	}
	if _, err := c.Endpoints(ctx); err != nil {
		c.Close()
		return err
	}
	d.client, d.token = c, strings.TrimSpace(string(token))
	return nil
}

func (d *demo) startAgents(ctx context.Context) error {
	began := time.Now()
	agents := map[string]*process{}
	for _, name := range d.endpoints {
		p, err := d.fleet.start(name, "tasker-agent", name+".yaml")
		if err != nil {
			return err
		}
		agents[name] = p
	}
	for _, name := range d.endpoints {
		connected := func() error {
			e, err := d.client.Endpoint(ctx, name)
			if err == nil && !e.Connected {
				err = errors.New("it is not connected")
			}
			return err
		}
		if err := d.await(ctx, agents[name], connected); err != nil {
			return err
		}
		d.say("  %-14s  connected after %s", name, since(began))
	}
	return nil
}

// await waits until a process serves.
func (d *demo) await(ctx context.Context, p *process, serves func() error) error {
	deadline := time.NewTimer(demoPatience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := serves()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return fmt.Errorf("%s is not there after %s: %w\n%s", p.name, demoPatience, err, p.tail())
		}
	}
}

func since(t time.Time) time.Duration { return time.Since(t).Round(10 * time.Millisecond) }
