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

// Outage is how a fleet reconnected after an outage.
type Outage struct {
	Seconds float64 `json:"seconds"`
	// BackMS is the time from the end of the outage until every agent was connected.
	BackMS float64 `json:"back_ms"`
	// Connections is the number of connections before the outage, Attempts the number of
	// connections opened after it, and PeakPerSecond the most within one second.
	Connections   int `json:"connections"`
	Attempts      int `json:"attempts"`
	PeakPerSecond int `json:"peak_per_second"`
	// PeakResident is the peak memory of each part while agents reconnected, in bytes.
	PeakResident map[string]uint64 `json:"peak_resident_bytes"`
}

// proxy forwards the agents' connections and can cut them.
type proxy struct {
	target  string
	address string
	work    sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener
	open     map[net.Conn]bool
	accepted []time.Time
}

// newProxy starts a proxy to target on a port of 127.0.0.1.
func newProxy(target string) (*proxy, error) {
	p := &proxy{target: target, address: "127.0.0.1:0", open: map[net.Conn]bool{}}
	if err := p.listen(); err != nil {
		return nil, err
	}
	p.address = p.listener.Addr().String()
	return p, nil
}

func (p *proxy) listen() error {
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		return fmt.Errorf("listen for the agents: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener, p.accepted = l, nil
	p.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() { p.forward(l, c) })
		}
	})
	return nil
}

// forward copies one connection in both directions until it ends.
func (p *proxy) forward(l net.Listener, c net.Conn) {
	defer c.Close()
	d, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer d.Close()
	p.mu.Lock()
	if p.listener != l {
		p.mu.Unlock()
		return
	}
	p.open[c], p.open[d] = true, true
	p.accepted = append(p.accepted, time.Now())
	p.mu.Unlock()
	var half sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{c: d, d: c} {
		half.Go(func() {
			_, _ = io.Copy(to, from)
			_, _ = c.Close(), d.Close()
		})
	}
	half.Wait()
	p.mu.Lock()
	delete(p.open, c)
	delete(p.open, d)
	p.mu.Unlock()
}

// close cuts all connections, accepts no more, and returns how many there were. listen
// opens the proxy again.
func (p *proxy) close() int {
	p.mu.Lock()
	l := p.listener
	p.listener = nil
	n := len(p.open) / 2
	for c := range p.open {
		_ = c.Close()
	}
	p.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	p.work.Wait()
	return n
}

// count returns the number of connections since listen, and the most within a second.
func (p *proxy) count() (all, peak int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := 0
	for i, at := range p.accepted {
		for at.Sub(p.accepted[first]) >= time.Second {
			first++
		}
		peak = max(peak, i-first+1)
	}
	return len(p.accepted), peak
}

// measureOutage closes the proxy for a while and waits until the fleet has reconnected.
func measureOutage(ctx context.Context, o Options, p *proxy, f *fleet, m *meter) (*Outage, error) {
	r := &Outage{Seconds: o.Outage.Seconds(), PeakResident: map[string]uint64{}}
	r.Connections = p.close()
	end := time.Now().Add(o.Outage)
	err := until(ctx, "the agents to notice the outage", constant(50*time.Millisecond), func() (bool, error) {
		return f.connected.Load() == 0, nil
	})
	if err != nil {
		return nil, err
	}
	if err := backoff.Sleep(ctx, time.Until(end)); err != nil {
		return nil, err
	}
	if err := p.listen(); err != nil {
		return nil, err
	}
	began := time.Now()
	err = until(ctx, "the agents to reconnect", constant(50*time.Millisecond), func() (bool, error) {
		for part, used := range m.read(ctx) {
			r.PeakResident[part] = max(r.PeakResident[part], used.Resident)
		}
		return int(f.connected.Load()) >= f.n, nil
	})
	r.BackMS = milliseconds(time.Since(began))
	r.Attempts, r.PeakPerSecond = p.count()
	if errors.Is(err, context.Canceled) {
		return nil, err
	}
	o.Logf("%d agents reconnected within %s after an outage of %s: %d connections, %d attempts, at most %d per second",
		f.n, time.Since(began).Round(time.Millisecond), o.Outage, r.Connections, r.Attempts, r.PeakPerSecond)
	return r, err
}

// connectionCounter counts connected links. Each link has one.
type connectionCounter struct {
	all *atomic.Int64
	up  atomic.Bool
}

func (s *connectionCounter) observe(err error) {
	if up := err == nil; s.up.Swap(up) != up {
		if up {
			s.all.Add(1)
		} else {
			s.all.Add(-1)
		}
	}
}
