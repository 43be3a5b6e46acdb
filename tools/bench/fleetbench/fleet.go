package fleetbench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq"
)

// handler does nothing, or sleeps.
type handler struct{ sleep time.Duration }

func (handler) Info() handlers.Info {
	return handlers.Info{Name: taskType, Summary: "Does nothing for a while.", Restart: handlers.RestartRetry}
}

func (h handler) Handle(ctx context.Context, _ handlers.Call) (handlers.Result, error) {
	if h.sleep <= 0 {
		return handlers.Result{}, nil
	}
	timer := time.NewTimer(h.sleep)
	defer timer.Stop()
	select {
	case <-timer.C:
		return handlers.Result{}, nil
	case <-ctx.Done():
		return handlers.Result{}, context.Cause(ctx)
	}
}

// endpoint is the name of an agent.
func endpoint(i int) string { return "bench-" + strconv.Itoa(i) }

// fleet is the agents that run in this process.
type fleet struct {
	n      int
	end    context.CancelFunc
	agents sync.WaitGroup
	trunks []*rabbitmq.Trunk
	// gate is what their connections go through, if they are to be cut.
	gate *gate
	// connected is how many links are.
	connected atomic.Int64

	mu  sync.Mutex
	err error
}

// startFleet starts the agents, each with a journal and a link of its own.
func startFleet(ctx context.Context, o Options, g *ground, p *plane, log *slog.Logger) (*fleet, error) {
	f := &fleet{n: o.Endpoints}
	if o.Outage > 0 {
		if err := f.openGate(o, g, p); err != nil {
			return nil, err
		}
	}
	// They stop in order, by stop, also when ctx is done.
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	f.end = end
	mux, err := handlers.NewMux(handler{o.Sleep})
	if err != nil {
		return nil, err
	}
	metrics := agent.NewMetrics(prometheus.NewRegistry()) // one for all: nobody reads them
	for i := 0; i < o.Endpoints && ctx.Err() == nil; i++ {
		if err := f.start(alive, o, g, p, i, mux, metrics, log); err != nil {
			return nil, errors.Join(fmt.Errorf("start agent %s: %w", endpoint(i), err), f.stop())
		}
	}
	return f, nil
}

func (f *fleet) start(ctx context.Context, o Options, g *ground, p *plane, i int, mux *handlers.Mux, metrics *agent.Metrics, log *slog.Logger) error {
	s := &standing{all: &f.connected}
	records, err := journal.Open(g.path(filepath.Join("agents", strconv.Itoa(i))), journal.Options{})
	if err != nil {
		return err
	}
	link, err := f.link(o, g, p, i, records.Instance(), s.observe, log)
	if err != nil {
		return errors.Join(err, records.Close())
	}
	a, err := agent.New(agent.Options{
		Endpoint: endpoint(i), Version: "bench", Link: link, Journal: records, Handlers: mux, Metrics: metrics,
		StopTimeout: time.Second, Log: log,
	})
	if err != nil {
		return errors.Join(err, link.Close(), records.Close())
	}
	f.agents.Go(func() {
		err := errors.Join(a.Run(ctx), link.Close(), records.Close())
		f.mu.Lock()
		f.err = errors.Join(f.err, err)
		f.mu.Unlock()
	})
	return nil
}

// link connects an agent.
func (f *fleet) link(o Options, g *ground, p *plane, i int, instance string, observe transport.Observer, log *slog.Logger) (transport.Link, error) {
	if o.HTTP {
		return httplink.NewLink(httplink.LinkOptions{
			URI: f.through(p.url), Endpoint: endpoint(i), Instance: instance, Observer: observe, Log: log,
			Token: func() (string, error) { return p.agents, nil },
		})
	}
	broker := f.through(g.amqp)
	opts := rabbitmq.LinkOptions{URI: broker, Endpoint: endpoint(i), Instance: instance, Observer: observe, Log: log}
	if o.PerConnection > 1 {
		if i%o.PerConnection == 0 {
			trunk, err := rabbitmq.NewTrunk(broker, "tasker bench", nil, log)
			if err != nil {
				return nil, err
			}
			f.trunks = append(f.trunks, trunk)
		}
		opts.Trunk = f.trunks[len(f.trunks)-1]
	}
	return rabbitmq.NewLink(opts)
}

// openGate puts a gate before what the agents connect to.
func (f *fleet) openGate(o Options, g *ground, p *plane) error {
	to := g.amqp
	if o.HTTP {
		to = p.url
	}
	u, err := url.Parse(to)
	if err == nil {
		f.gate, err = newGate(u.Host)
	}
	return err
}

// through is a URI by way of the gate, if there is one.
func (f *fleet) through(uri string) string {
	u, err := url.Parse(uri)
	if f.gate == nil || err != nil {
		return uri
	}
	u.Host = f.gate.address
	return u.String()
}

// ready waits until the control plane has heard of every agent.
func (f *fleet) ready(ctx context.Context, p *plane) error {
	return until(ctx, "the agents to be connected", every(100*time.Millisecond), func() (bool, error) {
		n, err := p.metric(ctx, "tasker_controlplane_endpoints_connected")
		return int(n) >= f.n, errors.Join(err, p.failed())
	})
}

// stop stops all agents and waits for them.
func (f *fleet) stop() error {
	f.end()
	f.agents.Wait()
	for _, t := range f.trunks {
		t.Close()
	}
	if f.gate != nil {
		f.gate.shut()
	}
	return f.err
}
