package fleetbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// Outage is how a fleet came back when what it connects to had been away.
type Outage struct {
	Seconds float64 `json:"seconds"`
	// BackMS is from the end of the outage until every agent was connected again.
	BackMS float64 `json:"back_ms"`
	// Connections is how many there are, Attempts how many were made to get there,
	// from the end of the outage on, and PeakPerSecond the most within one second.
	Connections   int `json:"connections"`
	Attempts      int `json:"attempts"`
	PeakPerSecond int `json:"peak_per_second"`
	// PeakResident is the most memory of each part meanwhile, in bytes.
	PeakResident map[string]uint64 `json:"peak_resident_bytes"`
}

// gate is what the agents' connections go through, and can be shut.
type gate struct {
	target  string
	address string
	work    sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener
	open     map[net.Conn]bool
	accepted []time.Time
}

// newGate opens a gate to target, on a port of 127.0.0.1.
func newGate(target string) (*gate, error) {
	g := &gate{target: target, address: "127.0.0.1:0", open: map[net.Conn]bool{}}
	if err := g.listen(); err != nil {
		return nil, err
	}
	g.address = g.listener.Addr().String()
	return g, nil
}

func (g *gate) listen() error {
	l, err := net.Listen("tcp", g.address)
	if err != nil {
		return fmt.Errorf("listen for the agents: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listener, g.accepted = l, nil
	g.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.work.Go(func() { g.forward(l, c) })
		}
	})
	return nil
}

// forward carries one connection to its end.
func (g *gate) forward(l net.Listener, c net.Conn) {
	defer c.Close()
	d, err := net.Dial("tcp", g.target)
	if err != nil {
		return
	}
	defer d.Close()
	g.mu.Lock()
	if g.listener != l {
		g.mu.Unlock()
		return
	}
	g.open[c], g.open[d] = true, true
	g.accepted = append(g.accepted, time.Now())
	g.mu.Unlock()
	var half sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{c: d, d: c} {
		half.Go(func() {
			_, _ = io.Copy(to, from)
			_, _ = c.Close(), d.Close()
		})
	}
	half.Wait()
	g.mu.Lock()
	delete(g.open, c)
	delete(g.open, d)
	g.mu.Unlock()
}

// shut cuts all connections and takes no more. It returns how many there were.
func (g *gate) shut() int {
	g.mu.Lock()
	l := g.listener
	g.listener = nil
	n := len(g.open) / 2
	for c := range g.open {
		_ = c.Close()
	}
	g.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	g.work.Wait()
	return n
}

// count says how many connections were made since listen, and the most within a second.
func (g *gate) count() (all, peak int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	first := 0
	for i, at := range g.accepted {
		for at.Sub(g.accepted[first]) >= time.Second {
			first++
		}
		peak = max(peak, i-first+1)
	}
	return len(g.accepted), peak
}

// outage shuts the gate for a while and waits for the fleet to come back.
func outage(ctx context.Context, o Options, g *gate, f *fleet, m *meter) (*Outage, error) {
	r := &Outage{Seconds: o.Outage.Seconds(), PeakResident: map[string]uint64{}}
	r.Connections = g.shut()
	over := time.Now().Add(o.Outage)
	err := until(ctx, "the agents to notice the outage", every(50*time.Millisecond), func() (bool, error) {
		return f.connected.Load() == 0, nil
	})
	if err != nil {
		return nil, err
	}
	if err := backoff.Sleep(ctx, time.Until(over)); err != nil {
		return nil, err
	}
	if err := g.listen(); err != nil {
		return nil, err
	}
	began := time.Now()
	err = until(ctx, "the agents to come back", every(50*time.Millisecond), func() (bool, error) {
		for part, used := range m.read(ctx) {
			r.PeakResident[part] = max(r.PeakResident[part], used.Resident)
		}
		return int(f.connected.Load()) >= f.n, nil
	})
	r.BackMS = milliseconds(time.Since(began))
	r.Attempts, r.PeakPerSecond = g.count()
	if errors.Is(err, context.Canceled) {
		return nil, err
	}
	o.Say("%d agents are back %s after an outage of %s: %d connections, %d attempts, at most %d a second",
		f.n, time.Since(began).Round(time.Millisecond), o.Outage, r.Connections, r.Attempts, r.PeakPerSecond)
	return r, err
}

// standing counts the links that are connected. Its observe is one link's.
type standing struct {
	all *atomic.Int64
	up  atomic.Bool
}

func (s *standing) observe(err error) {
	if up := err == nil; s.up.Swap(up) != up {
		if up {
			s.all.Add(1)
		} else {
			s.all.Add(-1)
		}
	}
}
