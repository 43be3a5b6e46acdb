package config

import (
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// Agent is the configuration of tasker-agent.
type Agent struct {
	// Endpoint is the name under which tasks reach this server. There is no default,
	// but an agent that is enrolled has its name from there.
	Endpoint string `yaml:"endpoint"`
	// Server is of use to agents that are not enrolled.
	Server Server `yaml:"server"`
	// DataDir is where the journal is kept; /var/lib/tasker-agent.
	DataDir string `yaml:"data_dir"`
	// Labels describe the server; none.
	Labels   map[string]string `yaml:"labels"`
	Metrics  Metrics           `yaml:"metrics"`
	Handlers Handlers          `yaml:"handlers"`
	// Concurrency is how many tasks of one type run at a time; 8.
	Concurrency int `yaml:"concurrency"`
	// KillGrace is the time between SIGTERM and SIGKILL; 10s.
	KillGrace tasker.Duration `yaml:"kill_grace"`
	// StopTimeout is how long a stopping agent lets running tasks finish; 30s.
	StopTimeout tasker.Duration `yaml:"stop_timeout"`
	Log         Log             `yaml:"log"`
}

// Server is where the agent connects to.
type Server struct {
	// URI is the control plane's "http(s)://HOST:PORT" or the broker's
	// "amqp(s)://USER:PASSWORD@HOST:PORT/VHOST"; http://127.0.0.1:8888.
	URI URI `yaml:"uri"`
	// TokenFile holds the agent's token for http(s); none.
	TokenFile string `yaml:"token_file"`
	// CAFile holds the certificates, in PEM, that are trusted beside the system's; none.
	CAFile string `yaml:"ca_file"`
}

// Token reads the token file; without one there is no token.
func (s Server) Token() (Secret, error) { return readToken(s.TokenFile) }

// Enrolled is what is known of an agent beside its configuration, by its identity
// or because it is to enrol when it starts. It is zero for one that does neither.
type Enrolled struct {
	// File is where it is from.
	File string
	// Endpoint is the name; it may be empty for an agent that is yet to enrol.
	Endpoint string
	// Servers are the control plane and, where that is another, what the agent
	// connects to.
	Servers []URI
}

// Enrol is the file beside an agent's configuration with which it enrols when it
// starts, and which is removed then.
type Enrol struct {
	// Server is the control plane's http(s)://HOST:PORT; there is no default.
	Server URI `yaml:"server"`
	// Token is the enrolment token; there is no default.
	Token Secret `yaml:"token"`
	// Endpoint is the name to enrol under; the configuration's, or else the host name.
	Endpoint string `yaml:"endpoint"`
	// CAFile holds the certificates, in PEM, that are trusted beside the system's; none.
	CAFile string `yaml:"ca_file"`
}

// Metrics is where Prometheus scrapes the agent.
type Metrics struct {
	// Address is 127.0.0.1.
	Address string `yaml:"address"`
	// Port is 9464; 0 turns the metrics off.
	Port int `yaml:"port"`
}

// Handlers are the settings of the built-in handlers.
type Handlers struct {
	Command  Command  `yaml:"command"`
	File     File     `yaml:"file"`
	Script   Script   `yaml:"script"`
	Artifact Artifact `yaml:"artifact"`
	Package  Package  `yaml:"package"`
	Service  Service  `yaml:"service"`
}

// Command is what the command handler may start.
type Command struct {
	// Allow lists the command lines, argument by argument; "*" stands for any one
	// argument. Nothing is allowed by default.
	Allow [][]string `yaml:"allow"`
}

// File is where the file handler may write.
type File struct {
	// Allow lists the directories, by absolute paths, in which and below which files
	// may be written and removed. Nothing is allowed by default.
	Allow []string `yaml:"allow"`
}

// Script is where the script handler looks.
type Script struct {
	// Directory holds the executables, named as the task types;
	// /etc/tasker-agent/handlers.d.
	Directory string `yaml:"directory"`
}

// Artifact is where the artifact handler deploys to.
type Artifact struct {
	// Allow lists the directories, by absolute paths. There are none by default.
	Allow []string `yaml:"allow"`
}

// Package is what the package handler may touch.
type Package struct {
	// Allow lists the packages, by names or patterns like "app-*". There are none by
	// default.
	Allow []string `yaml:"allow"`
}

// Service is what the handler service, and artifact, may do with units of systemd.
type Service struct {
	// Allow lists the units, by names or patterns like "app@*.service"; .service may be
	// left out. There are none by default.
	Allow []string `yaml:"allow"`
}

func defaultAgent() *Agent {
	return &Agent{
		DataDir:     "/var/lib/tasker-agent",
		Metrics:     Metrics{Address: "127.0.0.1", Port: 9464},
		Handlers:    Handlers{Script: Script{Directory: "/etc/tasker-agent/handlers.d"}},
		Concurrency: 8,
		KillGrace:   tasker.Duration(10 * time.Second),
		StopTimeout: tasker.Duration(30 * time.Second),
		Log:         defaultLog(),
	}
}
