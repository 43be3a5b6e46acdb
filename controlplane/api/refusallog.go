package api

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/auth"
)

// The limits of the log of refused calls: the first one of a client is logged at once, and
// the further ones as one line each refusalInterval. Clients beyond maxRefusedClients are
// counted together.
const (
	refusalInterval   = time.Minute
	maxRefusedClients = 100
)

// refusalLog logs refused calls. It is safe for concurrent use.
type refusalLog struct {
	log      *slog.Logger
	interval time.Duration

	mu      sync.Mutex
	clients map[refusedClient]int // the number of calls that are not logged yet
	others  int
	timer   *time.Timer
	closed  bool
}

// refusedClient is a client, as far as it is known, whose calls are refused with a status.
type refusedClient struct {
	network netip.Prefix
	caller  string
	status  int
}

func newRefusalLog(log *slog.Logger) *refusalLog {
	return &refusalLog{log: log, interval: refusalInterval, clients: map[refusedClient]int{}}
}

// isRefusal reports whether a status means that a call was refused because of its caller.
func isRefusal(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusTooManyRequests
}

// add logs a refused call, or counts it for a later line.
func (l *refusalLog) add(r *http.Request, record *requestRecord, status int) {
	client := refusedClient{auth.Network(record.address), record.caller, status}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, isKnown := l.clients[client]
	switch {
	case isKnown:
		l.clients[client]++
	case len(l.clients) >= maxRefusedClients:
		l.others++
	default:
		l.clients[client] = 0
		attrs := client.attrs(record.address.String())
		if record.endpoint != "" {
			attrs = append(attrs, slog.String("endpoint", record.endpoint))
		}
		l.log.LogAttrs(r.Context(), slog.LevelWarn, "call refused", append(attrs,
			slog.String("method", truncate(r.Method)), slog.String("route", record.route))...)
	}
	if l.timer == nil && !l.closed {
		l.timer = time.AfterFunc(l.interval, l.flush)
	}
}

func (c refusedClient) attrs(address string) []slog.Attr {
	attrs := []slog.Attr{slog.Int("status", c.status), slog.String("address", address)}
	if c.caller != "" {
		attrs = append(attrs, slog.String("by", c.caller))
	}
	return attrs
}

// describeNetwork returns the address of a network of one address, or the network.
func (c refusedClient) describeNetwork() string {
	if c.network.IsSingleIP() {
		return c.network.Addr().String()
	}
	return c.network.String()
}

// flush logs the calls that were counted since the last time.
func (l *refusalLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	interval := slog.String("within", l.interval.String())
	for _, client := range slices.SortedFunc(maps.Keys(l.clients), func(a, b refusedClient) int { return a.network.Addr().Compare(b.network.Addr()) }) {
		if n := l.clients[client]; n > 0 {
			l.log.LogAttrs(context.Background(), slog.LevelWarn, "further calls refused", append(client.attrs(client.describeNetwork()), slog.Int("calls", n), interval)...)
		}
	}
	if l.others > 0 {
		l.log.Warn("further calls of other clients refused", "calls", l.others, "within", l.interval.String())
	}
	clear(l.clients)
	l.others = 0
}

// close logs what was counted.
func (l *refusalLog) close() {
	l.mu.Lock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	l.flush()
}
