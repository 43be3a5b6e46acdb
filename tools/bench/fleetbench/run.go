package fleetbench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
)

// Options configure a run.
type Options struct {
	// Endpoints is the number of agents, Tasks the number of tasks.
	Endpoints, Tasks int
	// Spread creates all tasks at once, each for one endpoint, instead of one task after
	// the other for all endpoints.
	Spread bool
	// Payload is the size of a task's payload in bytes.
	Payload int
	// Sleep is the run time of the handler.
	Sleep time.Duration
	// Raw also measures the plain loop, except over HTTP.
	Raw bool
	// PerConnection is the number of agents that share one connection to RabbitMQ; zero
	// means one connection each up to maxOwnConnections agents.
	PerConnection int
	// HTTP connects the agents to the control plane and uses SQLite, instead of RabbitMQ
	// and MySQL.
	HTTP bool

	// Idle is how long the idle fleet is measured before the first task.
	Idle time.Duration
	// Outage is how long the agents are disconnected before the first task.
	Outage time.Duration

	// Name names the vhost, its user and the database of the run; empty chooses a new
	// name.
	Name string
	// RabbitMQ is the broker's management API with a superuser, AMQP the broker itself
	// (host:port), MySQL the database server.
	RabbitMQ, AMQP, MySQL string
	// Programs is the directory of tasker-controlplane.
	Programs string
	// Logf receives progress messages; it may be nil.
	Logf func(format string, args ...any)
}

// Limits of a run.
const (
	maxEndpoints = 20_000
	maxPayload   = 512 << 10
	// maxOwnConnections is the number of agents up to which each has a connection of its
	// own. More would use up the open files of a process on a usual machine.
	maxOwnConnections = 500
	// waitLimit bounds every wait: for the fleet to connect, and for a task to end.
	waitLimit = 10 * time.Minute
)

// Run prepares an environment, measures once, and removes the environment.
func Run(ctx context.Context, o Options) (r Result, err error) {
	if err := o.complete(); err != nil {
		return r, err
	}
	if err := raiseFileLimit(o); err != nil {
		return r, err
	}
	env, err := prepare(ctx, o, cmp.Or(o.Name, "tasker_bench_"+uuid.NewString()[:8]))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, env.remove(ctx)) }()
	plane, err := startControlPlane(ctx, o, env)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, plane.stop()) }()
	meter, err := newMeter(ctx, o, plane.pid())
	if err != nil {
		return r, err
	}
	r = Result{
		Transport: env.transport(), Database: env.database(), Endpoints: o.Endpoints, Tasks: o.Tasks, Spread: o.Spread,
		Payload: o.Payload, PerConnection: o.PerConnection,
	}
	if err := measureFleet(ctx, o, env, plane, meter, &r); err != nil {
		return r, err
	}
	if o.Raw && !o.HTTP {
		if err := measurePlainLoop(ctx, o, env, meter, &r); err != nil {
			return r, fmt.Errorf("measure the plain loop: %w", err)
		}
	}
	return r, nil
}

// complete checks the options and sets defaults.
func (o *Options) complete() error {
	switch {
	case o.Endpoints < 1 || o.Endpoints > maxEndpoints:
		return fmt.Errorf("%d endpoints: must be between 1 and %d", o.Endpoints, maxEndpoints)
	case o.Tasks < 1:
		return errors.New("at least one task is needed")
	case o.Payload < 0 || o.Payload > maxPayload:
		return fmt.Errorf("a payload of %d bytes: at most %d are possible", o.Payload, maxPayload)
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	if o.PerConnection <= 0 {
		o.PerConnection = (o.Endpoints + maxOwnConnections - 1) / maxOwnConnections
	}
	return nil
}

// measureFleet connects the fleet, measures it, and stops it.
func measureFleet(ctx context.Context, o Options, env *environment, plane *controlPlane, m *meter, r *Result) (err error) {
	empty := m.read(ctx)
	began := time.Now()
	fleet, err := startFleet(ctx, o, env, plane, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fleet.stop()) }()
	if err := fleet.ready(ctx, plane); err != nil {
		return err
	}
	r.ConnectMS = milliseconds(time.Since(began))
	o.Logf("%d agents are connected after %s", o.Endpoints, time.Since(began).Round(time.Millisecond))
	if o.Idle > 0 {
		if r.Idle, err = measureIdle(ctx, o, m, empty); err != nil {
			return err
		}
	}
	if o.Outage > 0 {
		if r.Outage, err = measureOutage(ctx, o, fleet.proxy, fleet, m); err != nil {
			return err
		}
	}
	if err := createTasks(ctx, o, env, plane, m, r); err != nil {
		return err
	}
	r.Memory = perEndpoint(empty, m.read(ctx), o.Endpoints)
	return nil
}
