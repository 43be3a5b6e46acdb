package demo

import (
	"fmt"
	"net"
	"strconv"
)

// addresses are where the demo's programs listen, as host:port.
type addresses struct {
	api string
	// metrics are the addresses of the agents' metrics, by endpoint.
	metrics map[string]string
	// conflicts describe the default ports that other programs use.
	conflicts []string
}

func (a addresses) url() string { return "http://" + a.api }

// chooseAddresses chooses the default ports where they are free. It keeps every port open
// until all are chosen, so that it chooses none twice.
func chooseAddresses(endpoints []string) (addresses, error) {
	a := addresses{metrics: map[string]string{}}
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	choose := func(port int, what string) (string, error) {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				return "", fmt.Errorf("find a free port: %w", err)
			}
			_, other, _ := net.SplitHostPort(l.Addr().String())
			a.conflicts = append(a.conflicts, fmt.Sprintf("%d is in use: %s on %s", port, what, other))
		}
		listeners = append(listeners, l)
		return l.Addr().String(), nil
	}
	var err error
	if a.api, err = choose(8888, "the API is"); err != nil {
		return a, err
	}
	for i, name := range endpoints {
		if a.metrics[name], err = choose(9464+i, "the metrics of "+name+" are"); err != nil {
			return a, err
		}
	}
	return a, nil
}
