package transporttest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// Proxy forwards TCP connections to a target. It can cut, refuse and stall them.
type Proxy struct {
	// Address is the host:port to connect to.
	Address string

	target string
	work   sync.WaitGroup

	mu     sync.Mutex
	listen net.Listener // nil while it refuses connections
	conns  map[net.Conn]bool
	near   map[net.Conn]bool // connections of clients
	open   chan struct{}     // closed unless the proxy stalls
	// dropped are the connections whose bytes are dropped.
	dropped map[net.Conn]bool
	// left is the number of bytes to the target before the proxy cuts all connections;
	// zero means no limit.
	left int
}

// NewProxy starts a Proxy to target (host:port). It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{target: target, conns: map[net.Conn]bool{}, dropped: map[net.Conn]bool{}, near: map[net.Conn]bool{}, open: make(chan struct{})}
	close(p.open)
	p.serve(t, loopbackAddress(t)+":0")
	t.Cleanup(func() {
		p.Refuse()
		p.Resume()
		p.work.Wait()
	})
	return p
}

// loopbackAddress returns a loopback address that no other Proxy uses, if the system has one,
// so that no other program gets the port while the proxy refuses connections.
func loopbackAddress(t testing.TB) string {
	t.Helper()
	host := fmt.Sprintf("127.%d.%d.%d", 1+rand.N(254), rand.N(256), 1+rand.N(254))
	listen, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", host+":0")
	if err != nil {
		return "127.0.0.1" // some systems have only one
	}
	_ = listen.Close()
	return host
}

// Cut closes all connections. The proxy forwards new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// CutAfter cuts all connections after the proxy has forwarded this many bytes to the target.
func (p *Proxy) CutAfter(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = bytes
}

// countBytes counts bytes to the target. It reports whether the limit is reached.
func (p *Proxy) countBytes(bytes int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		return false
	}
	p.left = max(0, p.left-bytes)
	return p.left == 0
}

// Refuse cuts all connections and refuses new ones.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	if p.listen != nil {
		_ = p.listen.Close()
		p.listen = nil
	}
	p.mu.Unlock()
	p.Cut()
}

// Accept ends Refuse.
func (p *Proxy) Accept(t testing.TB) {
	t.Helper()
	p.serve(t, p.Address)
}

// Stall keeps all connections open and forwards nothing in either direction.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
		p.open = make(chan struct{})
	default:
	}
}

// Resume ends Stall and forwards the held bytes.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
	default:
		close(p.open)
	}
}

// Drop keeps the present connections open but drops all bytes, as a firewall does that has
// forgotten them. New connections work.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		p.dropped[c] = true
	}
}

// Inject writes bytes to all clients, as if the target had sent them.
func (p *Proxy) Inject(t testing.TB, bytes []byte) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.near {
		if _, err := c.Write(bytes); err != nil {
			t.Fatalf("inject bytes: %v", err)
		}
	}
}

func (p *Proxy) serve(t testing.TB, address string) {
	t.Helper()
	listen, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatalf("listen as a proxy: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listen, p.Address = listen, listen.Addr().String()
	p.work.Go(func() {
		for {
			near, err := listen.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() { p.forward(near) })
		}
	})
}

func (p *Proxy) forward(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer far.Close()
	if !p.add(near, far) {
		return
	}
	defer p.remove(near, far)
	var both sync.WaitGroup
	both.Go(func() { p.copy(far, near, p.countBytes) })
	both.Go(func() { p.copy(near, far, func(int) bool { return false }) })
	both.Wait()
}

// copy copies until either side is closed, then closes both. It calls mustCut with the number
// of bytes copied, and cuts all connections if that returns true.
func (p *Proxy) copy(to, from net.Conn, mustCut func(int) bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		open := p.open
		p.mu.Unlock()
		<-open
		if n > 0 && !p.isDropped(from) {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
			if mustCut(n) {
				p.Cut()
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) isDropped(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dropped[c]
}

// add registers a connection. It reports false if the proxy refuses connections.
func (p *Proxy) add(near, far net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listen == nil {
		return false
	}
	p.conns[near], p.conns[far], p.near[near] = true, true, true
	return true
}

func (p *Proxy) remove(near, far net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, near)
	delete(p.conns, far)
	delete(p.near, near)
	delete(p.dropped, near)
	delete(p.dropped, far)
}
