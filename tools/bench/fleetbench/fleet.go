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

// endpointName returns the name of the i-th agent.
func endpointName(i int) string { return "bench-" + strconv.Itoa(i) }

// fleet is a set of agents that run in this process.
type fleet struct {
	n      int
	end    context.CancelFunc
	agents sync.WaitGroup
	shared []*rabbitmq.SharedConnection
	// proxy forwards the connections of all agents; nil without an outage.
	proxy *proxy
	// connected is the number of connected links.
	connected atomic.Int64

	mu  sync.Mutex
	err error
}

// startFleet starts the agents, each with a journal and a link of its own.
func startFleet(ctx context.Context, o Options, env *environment, p *controlPlane, log *slog.Logger) (*fleet, error) {
	f := &fleet{n: o.Endpoints}
	if o.Outage > 0 {
		if err := f.openProxy(o, env, p); err != nil {
			return nil, err
		}
	}
	// The agents run until stop, also when ctx is done.
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	f.end = end
	mux, err := handlers.NewMux(handler{o.Sleep})
	if err != nil {
		return nil, err
	}
	metrics := agent.NewMetrics(prometheus.NewRegistry()) // shared, since nothing reads them
	for i := 0; i < o.Endpoints && ctx.Err() == nil; i++ {
		if err := f.start(alive, o, env, p, i, mux, metrics, log); err != nil {
			return nil, errors.Join(fmt.Errorf("start agent %s: %w", endpointName(i), err), f.stop())
		}
	}
	return f, nil
}

func (f *fleet) start(ctx context.Context, o Options, env *environment, p *controlPlane, i int, mux *handlers.Mux, metrics *agent.Metrics, log *slog.Logger) error {
	s := &connectionCounter{all: &f.connected}
	records, err := journal.Open(env.path(filepath.Join("agents", strconv.Itoa(i))), journal.Options{})
	if err != nil {
		return err
	}
	link, err := f.link(o, env, p, i, records.Instance(), s.observe, log)
	if err != nil {
		return errors.Join(err, records.Close())
	}
	a, err := agent.New(agent.Options{
		Endpoint: endpointName(i), Version: "bench", Link: link, Journal: records, Handlers: mux, Metrics: metrics,
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

// link returns the link of an agent.
func (f *fleet) link(o Options, env *environment, p *controlPlane, i int, instance string, observe transport.Observer, log *slog.Logger) (transport.Link, error) {
	if o.HTTP {
		return httplink.NewLink(httplink.LinkOptions{
			URI: f.proxied(p.url), Endpoint: endpointName(i), Instance: instance, Observer: observe, Log: log,
			Token: func() (string, error) { return p.agents, nil },
		})
	}
	broker := f.proxied(env.amqp)
	opts := rabbitmq.LinkOptions{URI: broker, Endpoint: endpointName(i), Instance: instance, Observer: observe, Log: log}
	if o.PerConnection > 1 {
		if i%o.PerConnection == 0 {
			shared, err := rabbitmq.NewSharedConnection(broker, "tasker bench", nil, log)
			if err != nil {
				return nil, err
			}
			f.shared = append(f.shared, shared)
		}
		opts.Shared = f.shared[len(f.shared)-1]
	}
	return rabbitmq.NewLink(opts)
}

// openProxy starts a proxy in front of the broker or the control plane.
func (f *fleet) openProxy(o Options, env *environment, p *controlPlane) error {
	target := env.amqp
	if o.HTTP {
		target = p.url
	}
	u, err := url.Parse(target)
	if err == nil {
		f.proxy, err = newProxy(u.Host)
	}
	return err
}

// proxied returns the URI through the proxy, if there is one.
func (f *fleet) proxied(uri string) string {
	u, err := url.Parse(uri)
	if f.proxy == nil || err != nil {
		return uri
	}
	u.Host = f.proxy.address
	return u.String()
}

// ready waits until the control plane lists every agent as connected.
func (f *fleet) ready(ctx context.Context, p *controlPlane) error {
	return until(ctx, "the agents to be connected", constant(100*time.Millisecond), func() (bool, error) {
		n, err := p.metric(ctx, "tasker_controlplane_endpoints_connected")
		return int(n) >= f.n, errors.Join(err, p.failed())
	})
}

// stop stops all agents and waits for them.
func (f *fleet) stop() error {
	f.end()
	f.agents.Wait()
	for _, t := range f.shared {
		t.Close()
	}
	if f.proxy != nil {
		f.proxy.close()
	}
	return f.err
}
