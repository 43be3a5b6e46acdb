// Package config reads the configuration files of tasker. It defines their types and their
// defaults, and reports all problems of a file with their line, column and key, and with
// advice.
//
// A file is YAML. "${NAME}" in a value stands for the environment variable NAME,
// which must be set; "$${" stands for "${" itself. The value of a variable is always
// text, never YAML.
package config

import (
	"cmp"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// ControlPlane is the configuration of tasker-controlplane.
type ControlPlane struct {
	// TaskTypes are the types of the tasks that the API accepts; required.
	TaskTypes []TaskType `yaml:"task_types"`
	// Handlers are the names of additional handlers of the agents; default: none.
	Handlers []string `yaml:"handlers"`
	// DataDir is the directory of the tokens and the SQLite file; default: /var/lib/tasker.
	DataDir string  `yaml:"data_dir"`
	API     API     `yaml:"api"`
	Signing Signing `yaml:"signing"`
	// Database stores the tasks.
	Database Database `yaml:"database"`
	// MessageQueue connects the control plane with the agents.
	MessageQueue MessageQueue `yaml:"message_queue"`
	// RabbitMQ is the broker's superuser. It is used by initialize, and to create the users
	// of agents that enrol.
	RabbitMQ RabbitMQ `yaml:"rabbitmq"`
	// Endpoints configures which labels of an enrolled agent the control plane trusts.
	Endpoints Endpoints `yaml:"endpoints"`
	// Prometheus is the Prometheus that the gates of rollouts query.
	Prometheus Prometheus `yaml:"prometheus"`
	// Callbacks allows URLs: a callback URL must be equal to one of them or below one. By
	// default, every https URL is allowed, and http to this machine.
	Callbacks AllowList `yaml:"callbacks"`
	// Gates allows URLs for the gates of rollouts, like Callbacks.
	Gates AllowList `yaml:"gates"`
	// AllowPlainText permits connections to other machines without encryption: an API
	// without TLS, and http, amqp and mysql URIs; default: false.
	AllowPlainText Switch `yaml:"allow_plain_text"`
	Log            Log    `yaml:"log"`
}

// TaskType is one entry of task_types, which may be written as its name alone.
type TaskType struct {
	Name string `yaml:"name"`
	// Handler is the handler on the agents; default: the built-in handler with the name of
	// the type, or else script.
	Handler string `yaml:"handler"`
	// Timeout bounds the execution; default: none.
	Timeout tasker.Duration `yaml:"timeout"`
	// Labels is a selector like "role=web". It selects the endpoints of a task that has
	// neither endpoints nor labels; default: none, which selects every endpoint that serves
	// the type.
	Labels string `yaml:"labels"`
}

// shorthand returns the field that a single value sets.
func (t *TaskType) shorthand() any { return &t.Name }

// API is the section of the HTTP API.
type API struct {
	// Address is the IP address to listen on; default: 127.0.0.1.
	Address string `yaml:"address"`
	// Port is the port to listen on; default: 8888.
	Port int `yaml:"port"`
	// WaitForEndpointsTimeout is the time in which all endpoints should receive a task,
	// unless the task sets its own; default: 30s.
	WaitForEndpointsTimeout tasker.Duration `yaml:"wait_for_endpoints_timeout"`
	// LostAfter is the time without heartbeats after which the running assignments of an
	// agent count as interrupted; default: 1h.
	LostAfter tasker.Duration `yaml:"lost_after"`
	// Heartbeat is the interval of the agents' heartbeats; default: 10s. An endpoint counts
	// as disconnected after three intervals without a heartbeat.
	Heartbeat tasker.Duration `yaml:"heartbeat"`
	// Auth requires callers to have a token; default: on. It can be off on loopback only.
	Auth Switch `yaml:"auth"`
	// AgentToken accepts agents that are not enrolled: over HTTP with the agent.token of the
	// data directory, over RabbitMQ as the control plane's user; default: off. Over
	// HTTP, such agents are accepted also if Auth is off.
	AgentToken Switch `yaml:"agent_token"`
	// TrustedProxies are the addresses or networks of reverse proxies. The client's address
	// is then taken from their X-Forwarded-For; default: none.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// TLS configures https; default: auto.
	TLS TLS `yaml:"tls"`
}

// Proxies returns TrustedProxies as networks; invalid ones are left out.
func (a API) Proxies() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range a.TrustedProxies {
		if p, err := parseNetwork(text); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// parseNetwork parses an IP address or a network such as 10.0.0.0/8.
func parseNetwork(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		return address.Prefix(address.BitLen())
	}
	return netip.ParsePrefix(text)
}

// TLS is auto, off, or an object that names the PEM files of a certificate and its key.
// With auto, the API uses https with a self-signed certificate, unless it listens on
// loopback only.
type TLS struct {
	Mode string `yaml:"mode"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// The values of TLS.Mode.
const (
	tlsAuto = "auto"
	tlsOff  = "off"
)

// shorthand returns the field that a single value sets.
func (t *TLS) shorthand() any { return &t.Mode }

// HasFiles reports whether TLS names the files of a certificate.
func (t TLS) HasFiles() bool { return t.Cert != "" }

// SelfCertified reports whether the API uses https with a self-signed certificate.
func (a API) SelfCertified() bool {
	return a.TLS.Mode == tlsAuto && !a.TLS.HasFiles() && !IsLoopback(a.Address)
}

// Signing is the section of the keys that sign orders and callbacks.
type Signing struct {
	// KeyFile is the file of the keys. The control plane creates it if it does not exist;
	// default: signing.key in the data directory.
	KeyFile string `yaml:"key_file"`
}

// SigningKeyFile returns the path of the file of the signing keys.
func (c *ControlPlane) SigningKeyFile() string {
	return cmp.Or(c.Signing.KeyFile, filepath.Join(c.DataDir, "signing.key"))
}

// Database is the section of the database.
type Database struct {
	// URI is "sqlite:FILE", relative to the data directory, or
	// "mysql://USER:PASSWORD@HOST:PORT/DATABASE"; default: sqlite:tasker.db.
	URI URI `yaml:"uri"`
}

// MessageQueue is the section of the message queue.
type MessageQueue struct {
	// URI is "amqp(s)://USER:PASSWORD@HOST:PORT/VHOST". If it is empty (the default), the
	// agents connect to the API.
	URI URI `yaml:"uri"`
	// AgentsURI is the "amqp(s)://HOST:PORT", without user, that agents receive when they
	// enrol; default: the host and port of URI.
	AgentsURI URI `yaml:"agents_uri"`
}

// RabbitMQ is the section of the broker's management API.
type RabbitMQ struct {
	// APIURL is the URL of the API; default: http://localhost:15672/api.
	APIURL URI `yaml:"apiurl"`
	// Username and Password belong to a superuser; default: guest.
	Username string `yaml:"username"`
	Password Secret `yaml:"password"`
}

// Endpoints is the section of the endpoints.
type Endpoints struct {
	// TrustAgentLabels makes the labels in the configuration of an enrolled agent labels of
	// its endpoint; default: false. Otherwise only the labels of the enrolment token and of
	// an admin are.
	TrustAgentLabels Switch `yaml:"trust_agent_labels"`
}

// Prometheus is the section of Prometheus.
type Prometheus struct {
	// URI is its "http(s)://HOST:PORT"; default: none.
	URI URI `yaml:"uri"`
}

// AllowList is a section with a list of allowed values; default: none.
type AllowList struct {
	Allow []string `yaml:"allow"`
}

// Log is the section of the log.
type Log struct {
	// Level is debug, info, warn or error; default: info.
	Level string `yaml:"level"`
	// Format is text, json, or auto (the default): text on a terminal, else JSON.
	Format string `yaml:"format"`
}

func defaultControlPlane() *ControlPlane {
	return &ControlPlane{
		DataDir: "/var/lib/tasker",
		API: API{
			Address:                 "127.0.0.1",
			Port:                    8888,
			WaitForEndpointsTimeout: tasker.Duration(30 * time.Second),
			LostAfter:               tasker.Duration(time.Hour),
			Heartbeat:               tasker.Duration(10 * time.Second),
			Auth:                    true,
			TLS:                     TLS{Mode: tlsAuto},
		},
		Database: Database{URI: "sqlite:tasker.db"},
		RabbitMQ: RabbitMQ{APIURL: "http://localhost:15672/api", Username: "guest", Password: "guest"},
		Log:      defaultLog(),
	}
}

func defaultLog() Log { return Log{Level: "info", Format: "auto"} }

// Types returns the configured task types, each with its handler.
func (c *ControlPlane) Types() []tasker.TaskType {
	types := make([]tasker.TaskType, 0, len(c.TaskTypes))
	for _, t := range c.TaskTypes {
		types = append(types, tasker.TaskType{Name: t.Name, Handler: t.Handler, Timeout: t.Timeout.D()})
	}
	return types
}
