package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/MatthiasWiesner/tasker/client"
)

// startTimeout is how long a program may take to start.
const startTimeout = 20 * time.Second

// run is one run of the demo.
type run struct {
	Options
	endpoints []string
	fleet     *fleet
	addresses addresses
	client    *client.Client
	token     string
	// outcome is the error of the task.
	outcome error
}

// Run runs the demo until its end or a signal. A second signal kills the processes.
func Run(ctx context.Context, o Options) (err error) {
	// The kernel ends a child with the thread that started it, see fleet.start.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, kill, release := notifySignals(ctx)
	defer release()
	ctx, cancel := context.WithCancelCause(ctx)

	f, err := newFleet(o, cancel)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.stop(kill)) }()
	r := &run{Options: o, endpoints: endpointNames(o.Endpoints), fleet: f}
	defer r.close()
	if err := r.start(ctx); err != nil {
		return causeOf(ctx, err)
	}
	if err := r.performTask(ctx); err != nil {
		return causeOf(ctx, err)
	}
	if o.Exit {
		return r.outcome
	}
	r.printf("\nEverything stays up until Ctrl-C.")
	<-ctx.Done()
	r.printf("\nStopping.")
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

func endpointNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("loadbalancer-%d", i+1)
	}
	return names
}

// notifySignals returns a context that ends with the first signal and a channel that is
// closed with the second one, so that a user never has to wait. release stops both.
func notifySignals(ctx context.Context) (_ context.Context, second <-chan struct{}, release func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals, kill, done := make(chan os.Signal, 8), make(chan struct{}), make(chan struct{})
	// SIGPIPE: the reader of the output has ended.
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		defer close(done)
		stopping := false
		for s := range signals {
			if stopping && s != syscall.SIGPIPE {
				close(kill)
				return
			}
			stopping = true
			cancel()
		}
	}()
	return ctx, kill, func() {
		signal.Stop(signals)
		close(signals)
		<-done
		cancel()
	}
}

func (r *run) close() {
	if r.client != nil {
		r.client.Close()
	}
}

// causeOf returns why ctx has ended; err if it has not.
func causeOf(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case cause == nil:
		return err
	case errors.Is(cause, context.Canceled):
		return ErrInterrupted
	default:
		return cause
	}
}

func (r *run) printf(format string, args ...any) { fmt.Fprintf(r.Out, format+"\n", args...) }

// start starts the control plane and the agents.
func (r *run) start(ctx context.Context) error {
	var err error
	if r.addresses, err = chooseAddresses(r.endpoints); err != nil {
		return err
	}
	if err := r.fleet.writeFiles(r.addresses); err != nil {
		return err
	}
	r.printf("tasker demo, in %s (removed at the end)", r.fleet.dir)
	for _, conflict := range r.addresses.conflicts {
		r.printf("  port %s", conflict)
	}

	if err := r.fleet.initialize(ctx); err != nil {
		return err
	}
	startedAt := time.Now()
	controlPlane, err := r.fleet.start("control plane", "tasker-controlplane", "controlplane.yaml")
	if err != nil {
		return err
	}
	if err := waitReady(ctx, controlPlane, func() error { return r.connect(ctx) }); err != nil {
		return err
	}
	r.printf("  control plane   up after %s at %s", since(startedAt), r.addresses.url())
	return r.startAgents(ctx)
}

// connect makes the client. Another control plane that uses the port by now would not
// accept the token.
func (r *run) connect(ctx context.Context) error {
	content, err := os.ReadFile(filepath.Join(r.fleet.dir, "controlplane", "admin.token"))
	if err != nil {
		return fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(content))
	c, err := client.New(client.Options{URL: r.addresses.url(), Token: token, UserAgent: "tasker/" + r.Version})
	if err != nil {
		return err
	}
	if _, err := c.Endpoints(ctx); err != nil {
		c.Close()
		return err
	}
	r.client, r.token = c, token
	return nil
}

func (r *run) startAgents(ctx context.Context) error {
	startedAt := time.Now()
	agents := map[string]*process{}
	for _, name := range r.endpoints {
		p, err := r.fleet.start(name, "tasker-agent", name+".yaml")
		if err != nil {
			return err
		}
		agents[name] = p
	}
	for _, name := range r.endpoints {
		checkConnected := func() error {
			e, err := r.client.Endpoint(ctx, name)
			if err == nil && !e.Connected {
				err = errors.New("it is not connected")
			}
			return err
		}
		if err := waitReady(ctx, agents[name], checkConnected); err != nil {
			return err
		}
		r.printf("  %-14s  connected after %s", name, since(startedAt))
	}
	return nil
}

// waitReady waits until check returns nil.
func waitReady(ctx context.Context, p *process, check func() error) error {
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return fmt.Errorf("%s is not ready after %s: %w\n%s", p.name, startTimeout, err, p.logTail())
		}
	}
}

func since(t time.Time) time.Duration { return time.Since(t).Round(10 * time.Millisecond) }
