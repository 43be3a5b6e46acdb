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

// Options say what to measure, and on what.
type Options struct {
	// Endpoints is the number of agents, Tasks that of tasks.
	Endpoints, Tasks int
	// Spread hands each task to one endpoint, all at once, instead of one task
	// after the other to all.
	Spread bool
	// Payload is the size of a task's payload in bytes.
	Payload int
	// Sleep is how long the handler takes.
	Sleep time.Duration
	// Raw measures the floor, too. Over HTTP there is none.
	Raw bool
	// PerConnection is how many agents share one connection to RabbitMQ; zero
	// shares as few as this machine holds.
	PerConnection int
	// HTTP has the agents connect to the control plane, which keeps its tasks in
	// SQLite, instead of RabbitMQ and MySQL.
	HTTP bool

	// Idle is how long the connected fleet is watched before the first task.
	Idle time.Duration
	// Outage is for how long, before the first task, the agents are cut off from
	// what they connect to.
	Outage time.Duration

	// Name is that of the vhost, its user and the database that are made, and
	// removed; one that is new when empty.
	Name string
	// RabbitMQ is the management API of the broker with a superuser, AMQP the
	// broker itself (host:port), MySQL the database server.
	RabbitMQ, AMQP, MySQL string
	// Programs is the directory of tasker-controlplane.
	Programs string
	// Say is told what goes on; it may be nil.
	Say func(format string, args ...any)
}

// Limits of what is asked for.
const (
	maxEndpoints = 20_000
	maxPayload   = 512 << 10
	// inOnePart is how many agents have a connection of their own. Beyond, what a
	// process may open on a usual machine is used up by agents alone.
	inOnePart = 500
	// patience is how long the fleet may take to connect, and one task to end.
	patience = 10 * time.Minute
)

// Run measures once.
func Run(ctx context.Context, o Options) (r Result, err error) {
	switch {
	case o.Endpoints < 1 || o.Endpoints > maxEndpoints:
		return r, fmt.Errorf("%d endpoints: between 1 and %d can be simulated", o.Endpoints, maxEndpoints)
	case o.Tasks < 1:
		return r, errors.New("at least one task is needed")
	case o.Payload < 0 || o.Payload > maxPayload:
		return r, fmt.Errorf("a payload of %d bytes: at most %d are possible", o.Payload, maxPayload)
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if o.PerConnection <= 0 {
		o.PerConnection = (o.Endpoints + inOnePart - 1) / inOnePart
	}
	if err := roomForFiles(o); err != nil {
		return r, err
	}
	log := slog.New(slog.DiscardHandler)
	g, err := prepare(ctx, o, cmp.Or(o.Name, "tasker_bench_"+uuid.NewString()[:8]))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, g.remove(ctx)) }()
	plane, err := startPlane(ctx, o, g)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, plane.stop()) }()

	r = Result{
		Transport: g.transport(), Database: g.database(), Endpoints: o.Endpoints, Tasks: o.Tasks, Spread: o.Spread,
		Payload: o.Payload, PerConnection: o.PerConnection,
	}
	meter, err := newMeter(ctx, o, plane.pid())
	if err != nil {
		return r, err
	}
	empty := meter.read(ctx)
	began := time.Now()
	fleet, err := startFleet(ctx, o, g, plane, log)
	if err != nil {
		return r, err
	}
	if err := fleet.ready(ctx, plane); err != nil {
		return r, errors.Join(err, fleet.stop())
	}
	r.ConnectMS = milliseconds(time.Since(began))
	o.Say("%d agents are connected after %s", o.Endpoints, time.Since(began).Round(time.Millisecond))
	if o.Idle > 0 {
		r.Idle, err = idle(ctx, o, meter, empty)
	}
	if o.Outage > 0 && err == nil {
		r.Outage, err = outage(ctx, o, fleet.gate, fleet, meter)
	}
	if err == nil {
		err = drive(ctx, o, g, plane, meter, &r)
	}
	r.Memory = perEndpoint(empty, meter.read(ctx), o.Endpoints)
	if err := errors.Join(err, fleet.stop()); err != nil {
		return r, err
	}
	if o.Raw && !o.HTTP {
		if err := floor(ctx, o, g, meter, &r); err != nil {
			return r, fmt.Errorf("measure the floor: %w", err)
		}
	}
	return r, nil
}
