package tasker

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// IsMetricsAddress reports whether an address is host:port of a DNS name or an IP address,
// and a port from 1 to 65535. Anything else could make Prometheus scrape another URL. The
// unspecified addresses 0.0.0.0 and "::", which older agents report, lead Prometheus to itself.
func IsMetricsAddress(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return false
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Zone() == "" && !ip.Unmap().IsUnspecified() && strings.Contains(address, "[") == ip.Is6()
	}
	return !strings.Contains(address, "[") && isHostName(host)
}

// isHostName reports whether host is a DNS name, perhaps with underscores.
func isHostName(host string) bool {
	if len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			return false
		}
	}
	return true
}
