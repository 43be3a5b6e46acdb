package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/oklog/run"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// shutdownTimeout is how long requests may take to end when the control plane stops.
const shutdownTimeout = 10 * time.Second

// idleTimeout is how long a connection without a request is kept. Agents of a large
// fleet report every few minutes, and close theirs earlier.
const idleTimeout = 5 * time.Minute

// Run serves until ctx is done or a component fails. Then it stops without losing
// anything: it ends the requests, then the components, after the last reports are stored.
// It returns nil if ctx was done and every component stopped as it should.
func (c *ControlPlane) Run(ctx context.Context) error {
	listener, err := net.Listen("tcp", c.opts.Address)
	if err != nil {
		return fmt.Errorf("listen on api.address and api.port: %w", err)
	}
	if c.opts.TLS != nil {
		listener = tls.NewListener(listener, c.opts.TLS)
	}
	if err := c.store.ReleaseClaims(ctx); err != nil {
		c.log.Warn("orders that a stopped control plane was about to send are delayed", "delay", store.ClaimHold, "error", err)
	}
	server := &http.Server{
		Handler: c.api, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(newServerLog(c.log), slog.LevelDebug),
	}
	server.RegisterOnShutdown(c.api.Drain)

	// The group stops its actors in this order after the first one has returned.
	var group run.Group
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	group.Add(func() error {
		<-running.Done()
		return nil
	}, func(error) {
		c.log.Info("control plane is stopping")
		cancel()
	})
	var hubErr error
	group.Add(func() error { return serve(server, listener) }, func(error) { hubErr = c.shutdown(server) })
	// The loops outlive ctx until the group stops them: requests may still need them.
	looping, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	loops := c.loops()
	for i := range loops {
		group.Add(func() error { return loops[i].execute(looping) }, func(error) { stopLoops() })
	}

	c.log.Info("control plane started", "version", c.opts.Version, "address", listener.Addr().String(), "auth", c.opts.Auth)
	if c.opts.Listening != nil {
		c.opts.Listening(listener.Addr())
	}
	err = group.Run()
	return errors.Join(err, hubErr, loops.furtherError(err))
}

func serve(server *http.Server, listener net.Listener) error {
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the API ended: %w", err)
	}
	return nil
}

// shutdown closes the hub and waits for the requests to end. It returns the error of the
// hub.
func (c *ControlPlane) shutdown(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	// The server waits for the agents' streams, which end with the hub.
	closed := make(chan error, 1)
	go func() { closed <- c.opts.Hub.Close() }()
	if err := server.Shutdown(ctx); err != nil {
		c.log.Warn("requests were cut off", "error", err)
		_ = server.Close()
	}
	return <-closed
}

// loops are the components that run until they are stopped.
type loops []loop

type loop struct {
	name string
	run  func(context.Context) error
	// err is why the loop ended before it was stopped.
	err error
}

func (c *ControlPlane) loops() loops {
	return loops{
		{name: "dispatch", run: c.dispatch.Run},
		{name: "collect", run: c.collect.Run},
		{name: "deadline", run: c.deadline.Run},
		{name: "rollout", run: c.rollout.Run},
		{name: "callback", run: c.callback.Run},
		{name: "signing", run: c.keys.Run},
	}
}

// execute runs the loop until ctx is done, and returns an error if it ended before.
func (l *loop) execute(ctx context.Context) error {
	if err := l.run(ctx); err != nil && ctx.Err() == nil {
		l.err = fmt.Errorf("%s ended: %w", l.name, err)
	}
	return l.err
}

// furtherError returns the errors of loops besides the first error of the group. The hub
// is closed while loops still run, which is no error.
func (l loops) furtherError(first error) error {
	var errs []error
	for _, one := range l {
		if !errors.Is(one.err, transport.ErrClosed) && !errors.Is(first, one.err) {
			errs = append(errs, one.err)
		}
	}
	return errors.Join(errs...)
}
