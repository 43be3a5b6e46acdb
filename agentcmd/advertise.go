package agentcmd

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/MatthiasWiesner/tasker/config"
)

// routeTimeout bounds the lookup of the server's name, for which a hello waits.
const routeTimeout = 2 * time.Second

// advertiser determines the address at which Prometheus can scrape the agent. It must not
// be used concurrently.
type advertiser struct {
	metrics config.Metrics
	// server is the control plane or the broker.
	server config.URI
	log    *slog.Logger
	// last is the newest address that was determined.
	last string
}

// address returns host:port, or "" if the metrics are off or cannot be scraped from the
// control plane. It sends no packet, except to look up the server's name. If that fails, it
// returns the address that it returned before.
func (a *advertiser) address(ctx context.Context) string {
	listen := a.metrics.ListenAddress()
	ip, err := netip.ParseAddr(a.metrics.Address)
	loopback := err != nil || ip.Unmap().IsLoopback() // the only name is localhost
	switch {
	case a.metrics.Port == 0:
		return ""
	case a.metrics.Advertise != "":
		return a.metrics.AdvertisedAddress()
	case !loopback && !ip.IsUnspecified():
		return listen
	}
	network := "udp"
	if !loopback && ip.Is4() {
		network = "udp4" // 0.0.0.0 accepts no connections over IPv6
	}
	local, remote, err := route(ctx, network, a.server)
	if err != nil {
		a.log.Warn("the address of the metrics for /sd/prometheus cannot be determined; set metrics.advertise", "advertised", a.last, "error", err)
		return a.last
	}
	switch sameHost := local.IsLoopback() || local == remote; {
	case !loopback:
		a.last = netip.AddrPortFrom(local, uint16(a.metrics.Port)).String() //nolint:gosec // checked by config
	case sameHost:
		a.last = listen
	default:
		a.last = ""
		a.log.Debug("metrics are left out of /sd/prometheus, because metrics.address is a loopback address")
	}
	return a.last
}

// route returns the local address from which this host reaches a server, and the address of
// the server, both without IPv6 zones. Connecting a UDP socket sends nothing.
func route(ctx context.Context, network string, server config.URI) (local, remote netip.Addr, err error) {
	ctx, cancel := context.WithTimeout(ctx, routeTimeout)
	defer cancel()
	u, err := url.Parse(server.Reveal())
	if err != nil {
		return local, remote, err
	}
	port := u.Port()
	if port == "" {
		port = "443" // any port has the same route
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return local, remote, err
	}
	defer func() { _ = conn.Close() }()
	return addrOf(conn.LocalAddr()), addrOf(conn.RemoteAddr()), nil
}

func addrOf(a net.Addr) netip.Addr {
	udp, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.Addr{}
	}
	return udp.AddrPort().Addr().Unmap().WithZone("")
}
