package config

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Metrics is the section of the metrics endpoint.
type Metrics struct {
	// Address is the IP address to listen on; default: 127.0.0.1.
	Address string `yaml:"address"`
	// Port is the port to listen on; default: 9464. 0 turns the metrics off.
	Port int `yaml:"port"`
	// Advertise is the HOST or HOST:PORT at which Prometheus can scrape the agent; default:
	// the address, or if it is 0.0.0.0 or "::", the local address from which the agent
	// reaches its server. A loopback address is advertised only if the server is on the
	// same host.
	Advertise string `yaml:"advertise"`
}

// ListenAddress returns the host:port to listen on.
func (m Metrics) ListenAddress() string { return net.JoinHostPort(m.Address, strconv.Itoa(m.Port)) }

// AdvertisedAddress returns Advertise as host:port, with Port if it has none. The result is
// to be checked.
func (m Metrics) AdvertisedAddress() string {
	if _, _, err := net.SplitHostPort(m.Advertise); err == nil {
		return m.Advertise
	}
	host := m.Advertise
	if inner, ok := strings.CutPrefix(host, "["); ok && strings.HasSuffix(inner, "]") {
		host = strings.TrimSuffix(inner, "]")
	} else if strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return host
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(m.Port))
}
