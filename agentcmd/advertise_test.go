package agentcmd

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/MatthiasWiesner/tasker/config"
)

// elsewhere is an address of another host: it is reserved for documentation.
const elsewhere = "https://198.51.100.1:8888"

func TestAdvertisedAddress(t *testing.T) {
	t.Parallel()
	local, _, err := route(t.Context(), "udp4", elsewhere)
	if err != nil {
		t.Skip("this machine has no route to other machines: ", err)
	}
	here := local.String() + ":9464"
	own := config.URI("https://" + local.String() + ":8888")
	broker := config.URI("amqps://u:p@198.51.100.1/tasker")
	for name, tt := range map[string]struct {
		metrics config.Metrics
		server  config.URI
		want    string
	}{
		"off":                            {config.Metrics{Address: "0.0.0.0", Advertise: "web-1"}, elsewhere, ""},
		"advertise with a port":          {config.Metrics{Address: "127.0.0.1", Port: 9464, Advertise: "web-1:80"}, elsewhere, "web-1:80"},
		"advertise without a port":       {config.Metrics{Address: "127.0.0.1", Port: 9464, Advertise: "web-1"}, elsewhere, "web-1:9464"},
		"advertise IPv6":                 {config.Metrics{Address: "::", Port: 9464, Advertise: "2001:db8::7"}, elsewhere, "[2001:db8::7]:9464"},
		"advertise IPv6 in brackets":     {config.Metrics{Address: "::", Port: 9464, Advertise: "[2001:db8::7]"}, elsewhere, "[2001:db8::7]:9464"},
		"advertise IPv6 with a port":     {config.Metrics{Address: "::", Port: 9464, Advertise: "[2001:db8::7]:80"}, elsewhere, "[2001:db8::7]:80"},
		"one address":                    {config.Metrics{Address: "10.0.0.7", Port: 9464}, elsewhere, "10.0.0.7:9464"},
		"one IPv6 address":               {config.Metrics{Address: "2001:db8::7", Port: 9464}, elsewhere, "[2001:db8::7]:9464"},
		"all addresses":                  {config.Metrics{Address: "0.0.0.0", Port: 9464}, elsewhere, here},
		"all addresses, IPv6 too":        {config.Metrics{Address: "::", Port: 9464}, elsewhere, here},
		"all addresses, a broker":        {config.Metrics{Address: "0.0.0.0", Port: 9464}, broker, here},
		"all addresses, a local server":  {config.Metrics{Address: "0.0.0.0", Port: 9464}, "http://127.0.0.1:8888", "127.0.0.1:9464"},
		"loopback, a local server":       {config.Metrics{Address: "127.0.0.1", Port: 9464}, "http://localhost:8888", "127.0.0.1:9464"},
		"loopback, this host's address":  {config.Metrics{Address: "127.0.0.1", Port: 9464}, own, "127.0.0.1:9464"},
		"localhost, a local server":      {config.Metrics{Address: "localhost", Port: 9464}, "http://127.0.0.1:8888", "localhost:9464"},
		"loopback, a server elsewhere":   {config.Metrics{Address: "127.0.0.1", Port: 9464}, elsewhere, ""},
		"loopback, a broker elsewhere":   {config.Metrics{Address: "127.0.0.1", Port: 9464}, broker, ""},
		"IPv6 loopback, elsewhere":       {config.Metrics{Address: "::1", Port: 9464}, elsewhere, ""},
		"localhost, a server elsewhere":  {config.Metrics{Address: "localhost", Port: 9464}, elsewhere, ""},
		"all of IPv4, a server on IPv6":  {config.Metrics{Address: "0.0.0.0", Port: 9464}, "http://[::1]:8888", ""},
		"IPv4 as IPv6, server elsewhere": {config.Metrics{Address: "::ffff:127.0.0.1", Port: 9464}, elsewhere, ""},
	} {
		a := &advertiser{metrics: tt.metrics, server: tt.server, log: slog.New(slog.DiscardHandler)}
		if got := a.address(t.Context()); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestAdvertisedAddressIPv6(t *testing.T) {
	t.Parallel()
	c, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6: ", err)
	}
	_ = c.Close()
	a := &advertiser{metrics: config.Metrics{Address: "::", Port: 9464}, server: "http://[::1]:8888", log: slog.New(slog.DiscardHandler)}
	if got := a.address(t.Context()); got != "[::1]:9464" {
		t.Errorf("%q, want [::1]:9464", got)
	}
}

// A name that cannot be looked up for a moment does not remove the agent from discovery.
func TestAdvertisedAddressIsKept(t *testing.T) {
	t.Parallel()
	a := &advertiser{metrics: config.Metrics{Address: "0.0.0.0", Port: 9464}, server: "http://127.0.0.1:8888", log: slog.New(slog.DiscardHandler)}
	want := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 9464).String()
	if got := a.address(t.Context()); got != want {
		t.Fatalf("%q, want %q", got, want)
	}
	a.server = "http://server.invalid:8888"
	if got := a.address(t.Context()); got != want {
		t.Errorf("after a failed lookup: %q, want %q", got, want)
	}
}
