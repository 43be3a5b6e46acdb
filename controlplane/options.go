package controlplane

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// Options configure New.
type Options struct {
	Version string
	// Types are the configured task types, as the API shows them.
	Types []api.TaskType
	// DatabaseURI is as in store.Options, relative to DataDir.
	DatabaseURI string
	DataDir     string
	// SigningKeyFile is the file of the keys that sign orders and callbacks.
	SigningKeyFile string

	// Hub is the transport to the agents. Run closes it.
	Hub transport.Hub
	// Agents serves the agents' requests if they connect to the API; else nil.
	Agents http.Handler
	// Transport is the health of the hub; nil if the hub needs no connection.
	Transport *TransportHealth

	// EndpointAuthorizer authorizes agents for the hub; it may be nil.
	EndpointAuthorizer *auth.EndpointAuthorizer
	// Broker, Unsupported and Disconnect are as in auth.EnrollerOptions.
	Broker      auth.Broker
	Unsupported bool
	Disconnect  func(endpoint string)

	// Address is the host:port of the API. With Auth the API requires tokens.
	// AgentToken accepts agents that are not enrolled, with the token that they share.
	Address    string
	Auth       bool
	AgentToken bool
	TLS        *tls.Config
	// TrustedProxies are as in auth.AuthorizerOptions.
	TrustedProxies []netip.Prefix
	// Fingerprint is that of a certificate of TLS that the control plane has made
	// itself, else empty.
	Fingerprint string

	// Prometheus is the URI of the Prometheus that evaluates rollout gates; empty if there
	// is none.
	Prometheus string

	// Callbacks and Gates are the permitted URLs of callbacks and gates; see
	// urlrules.New.
	Callbacks, Gates []string

	// TrustAgentLabels is as in store.Options.
	TrustAgentLabels bool

	ReceiveTimeout time.Duration
	LostAfter      time.Duration
	Heartbeat      time.Duration

	Log      *slog.Logger
	Registry *prometheus.Registry
	// Listening is called with the API's address when the API serves; it may be nil.
	Listening func(net.Addr)
	// Waiting is called at each try while New waits for the database; it may be nil.
	Waiting func(error)
}

// taskTypes returns the configured task types.
func (o *Options) taskTypes() []tasker.TaskType {
	types := make([]tasker.TaskType, 0, len(o.Types))
	for _, t := range o.Types {
		types = append(types, tasker.TaskType{Name: t.Name, Handler: t.Handler, Timeout: t.Timeout})
	}
	return types
}
