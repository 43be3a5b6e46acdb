// Package config is what the operators of tasker write: the types of the
// configuration files, their defaults, and the loading, which is strict and
// says of everything that is wrong in which file, line and column it is, under
// which key, and what to do about it.
//
// A file is YAML. "${NAME}" in a value stands for the environment variable NAME,
// which must be set; "$${" stands for "${" itself. What a variable holds is
// always text, never YAML.
package config

import (
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// ControlPlane is the configuration of tasker-controlplane.
type ControlPlane struct {
	// TaskTypes are the kinds of tasks that can be POSTed; there is no default.
	TaskTypes []TaskType `yaml:"task_types"`
	// Handlers are names of further handlers, which the agents have compiled in; none.
	Handlers []string `yaml:"handlers"`
	// DataDir is where tokens and the SQLite file are kept; /var/lib/tasker.
	DataDir string `yaml:"data_dir"`
	API     API    `yaml:"api"`
	// Database is where tasks are kept.
	Database Database `yaml:"database"`
	// MessageQueue is how agents are reached.
	MessageQueue MessageQueue `yaml:"message_queue"`
	// RabbitMQ is the broker's superuser, used by initialize, and for the users of
	// agents that enrol.
	RabbitMQ RabbitMQ `yaml:"rabbitmq"`
	// Prometheus is what the gates of rollouts may ask.
	Prometheus Prometheus `yaml:"prometheus"`
	// Callbacks is whom tasks may have called.
	Callbacks Callbacks `yaml:"callbacks"`
	// Gates is which URLs the gates of rollouts may ask.
	Gates Gates `yaml:"gates"`
	Log   Log   `yaml:"log"`
}

// TaskType is one entry of task_types: a name, or an object.
type TaskType struct {
	Name string `yaml:"name"`
	// Handler performs it on the agents; the built-in of that name, where there
	// is one, else script.
	Handler string `yaml:"handler"`
	// Timeout bounds the execution; none.
	Timeout tasker.Duration `yaml:"timeout"`
}

// shorthand is what a bare text in place of the object sets.
func (t *TaskType) shorthand() any { return &t.Name }

// API is how the control plane is spoken to.
type API struct {
	// Address is the IP address to listen on; 127.0.0.1.
	Address string `yaml:"address"`
	// Port is 8888.
	Port int `yaml:"port"`
	// WaitForEndpointsTimeout is the time in which all endpoints should receive a
	// task, unless the task names its own; 30s.
	WaitForEndpointsTimeout tasker.Duration `yaml:"wait_for_endpoints_timeout"`
	// LostAfter is how long an agent may be silent before what it was at counts
	// as interrupted; 1h.
	LostAfter tasker.Duration `yaml:"lost_after"`
	// Heartbeat is the interval of the agents' heartbeats; 10s. An endpoint is
	// connected while it is not silent for three of them.
	Heartbeat tasker.Duration `yaml:"heartbeat"`
	// Auth is whether callers need a token; on. It can be off on loopback only.
	Auth Switch `yaml:"auth"`
	// TLS is whether the API speaks https; auto.
	TLS TLS `yaml:"tls"`
}

// TLS is auto, off, or an object that names the PEM files of a certificate and
// its key. Auto is https, with a certificate that the control plane makes itself,
// unless it listens on loopback only.
type TLS struct {
	Mode string `yaml:"mode"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// The modes of TLS without files.
const (
	tlsAuto = "auto"
	tlsOff  = "off"
)

// shorthand is what a bare text in place of the object sets.
func (t *TLS) shorthand() any { return &t.Mode }

// Files says whether there are files of a certificate.
func (t TLS) Files() bool { return t.Cert != "" }

// SelfCertified says whether the API speaks https with a certificate that it makes
// itself.
func (a API) SelfCertified() bool {
	return a.TLS.Mode == tlsAuto && !a.TLS.Files() && !IsLoopback(a.Address)
}

// Database is where tasks are kept.
type Database struct {
	// URI is "sqlite:FILE", relative to the data directory, or
	// "mysql://USER:PASSWORD@HOST:PORT/DATABASE"; sqlite:tasker.db.
	URI URI `yaml:"uri"`
}

// MessageQueue is how agents are reached.
type MessageQueue struct {
	// URI is "amqp(s)://USER:PASSWORD@HOST:PORT/VHOST", or empty, the default, for
	// agents that connect to the API.
	URI URI `yaml:"uri"`
	// AgentsURI is where agents that enrol are told to connect to,
	// "amqp(s)://HOST:PORT" without user; that of URI when empty.
	AgentsURI URI `yaml:"agents_uri"`
}

// RabbitMQ is the broker's management API and a superuser of it.
type RabbitMQ struct {
	// APIURL is http://localhost:15672/api.
	APIURL URI `yaml:"apiurl"`
	// Username and Password are guest.
	Username string `yaml:"username"`
	Password Secret `yaml:"password"`
}

// Prometheus is where the gates of rollouts are asked.
type Prometheus struct {
	// URI is its "http(s)://HOST:PORT"; none.
	URI URI `yaml:"uri"`
}

// Callbacks is whom tasks may have called.
type Callbacks struct {
	// Allow are URLs: a callback must be one of them or below one. Empty, the
	// default, is every https URL, and http to this machine.
	Allow []string `yaml:"allow"`
}

// Gates is which URLs the gates of rollouts may ask.
type Gates struct {
	// Allow are URLs: that of a gate must be one of them or below one. Empty, the
	// default, is every https URL, and http to this machine.
	Allow []string `yaml:"allow"`
}

// Log is what is logged and how.
type Log struct {
	// Level is debug, info, warn or error; info.
	Level string `yaml:"level"`
	// Format is text, json, or auto, the default: text on a terminal, else JSON.
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

// Types are the configured task types, each with its handler.
func (c *ControlPlane) Types() []tasker.TaskType {
	types := make([]tasker.TaskType, 0, len(c.TaskTypes))
	for _, t := range c.TaskTypes {
		types = append(types, tasker.TaskType{Name: t.Name, Handler: t.Handler, Timeout: t.Timeout.D()})
	}
	return types
}
