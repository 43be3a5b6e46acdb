package auth

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ClientAddress returns the address of the client that sent a request; the zero Addr if it
// is unknown. Behind trusted proxies, it is the last address in X-Forwarded-For that is
// not one of them: a client can write any addresses before it.
func (a *Authorizer) ClientAddress(r *http.Request) netip.Addr {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address := remote.Addr().Unmap()
	forwarded := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(forwarded) {
		if !a.isTrustedProxy(address) {
			break
		}
		next, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			break
		}
		address = next.Unmap()
	}
	return address
}

func (a *Authorizer) isTrustedProxy(address netip.Addr) bool {
	return slices.ContainsFunc(a.trustedProxies, func(p netip.Prefix) bool { return p.Contains(address) })
}
