package config

import (
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// Agent is the configuration of tasker-agent.
type Agent struct {
	// Endpoint is the name of this server in tasks; default: the name under which the
	// server is enrolled.
	Endpoint string `yaml:"endpoint"`
	// Server is the server to connect to, for agents that are not enrolled.
	Server Server `yaml:"server"`
	// DataDir is the directory of the journal; default: /var/lib/tasker-agent.
	DataDir string `yaml:"data_dir"`
	// Labels describe the server; default: none.
	Labels   map[string]string `yaml:"labels"`
	Metrics  Metrics           `yaml:"metrics"`
	Handlers Handlers          `yaml:"handlers"`
	// Concurrency is the number of tasks of one type that run at a time; default: 8.
	Concurrency int `yaml:"concurrency"`
	// KillGrace is the time between SIGTERM and SIGKILL; default: 10s.
	KillGrace tasker.Duration `yaml:"kill_grace"`
	// StopTimeout is how long a stopping agent waits for running tasks; default: 30s.
	StopTimeout tasker.Duration `yaml:"stop_timeout"`
	// UnauthorizedTimeout is how long the control plane or the broker may refuse the agent's
	// credential, for example after the endpoint was revoked, before the agent ends its tasks;
	// default: 1m. 0 lets them finish.
	UnauthorizedTimeout tasker.Duration `yaml:"unauthorized_timeout"`
	// AllowPlainText permits a server on another machine without encryption (http or amqp);
	// default: false.
	AllowPlainText Switch `yaml:"allow_plain_text"`
	// AcceptUnsignedOrders permits a server on another machine for an agent that is not
	// enrolled and so cannot verify the signatures of orders; default: false.
	AcceptUnsignedOrders Switch `yaml:"accept_unsigned_orders"`
	Log                  Log    `yaml:"log"`
}

// Server is the section of the server to which the agent connects.
type Server struct {
	// URI is the control plane's "http(s)://HOST:PORT" or the broker's
	// "amqp(s)://USER:PASSWORD@HOST:PORT/VHOST"; default: http://127.0.0.1:8888.
	URI URI `yaml:"uri"`
	// TokenFile contains the agent's token for http(s); default: none.
	TokenFile string `yaml:"token_file"`
	// CAFile contains PEM certificates to trust in addition to those of the system; default:
	// none.
	CAFile string `yaml:"ca_file"`
}

// Token reads the token file. Without a file the token is empty.
func (s Server) Token() (Secret, error) { return readToken(s.TokenFile) }

// Enrolled describes the enrolment of an agent: its identity, or the file with which it
// enrols when it starts. It is zero for an agent without enrolment.
type Enrolled struct {
	// File is the file of the identity or of the enrolment.
	File string
	// Endpoint is the name of the agent. It may be empty before the agent has enrolled.
	Endpoint string
	// Servers are the control plane and, if it is another one, the server to which the agent
	// connects.
	Servers []URI
	// Request is the control plane at which an agent that has an identity enrols again when
	// it starts; empty if it does not.
	Request URI
}

// Enrol is the file beside an agent's configuration with which the agent enrols when it
// starts. The agent removes the file after its enrolment.
type Enrol struct {
	// Server is the http(s)://HOST:PORT of the control plane; required.
	Server URI `yaml:"server"`
	// Token is the enrolment token; required.
	Token Secret `yaml:"token"`
	// Endpoint is the name to enrol under; default: that of the configuration, or else the
	// host name.
	Endpoint string `yaml:"endpoint"`
	// CAFile contains PEM certificates to trust in addition to those of the system; default:
	// none.
	CAFile string `yaml:"ca_file"`
}

// Handlers is the section of the built-in handlers.
type Handlers struct {
	Command Command `yaml:"command"`
	// File allows the absolute paths of the directories in and below which files may be
	// written and removed.
	File     AllowList `yaml:"file"`
	Script   Script    `yaml:"script"`
	Artifact Artifact  `yaml:"artifact"`
	// Package allows packages, by names or patterns like "app-*".
	Package AllowList `yaml:"package"`
	// Service allows the systemd units that the handlers service and artifact may control,
	// by names or patterns like "app@*.service"; .service may be omitted.
	Service AllowList `yaml:"service"`
}

// Command is the section of the command handler.
type Command struct {
	// Allow lists the allowed commands. Default: none.
	Allow []AllowedCommand `yaml:"allow"`
}

// AllowedCommand is a command that tasks may run. A list sets only Argv.
type AllowedCommand struct {
	// Argv is the command line as arguments; "*" stands for any one argument.
	Argv []string `yaml:"argv"`
	// Env has the names of the environment variables that a task may set; default: none.
	Env []string `yaml:"env"`
	// Cwd has the working directories that a task may choose, as absolute paths or patterns
	// like "/srv/*"; default: none.
	Cwd []string `yaml:"cwd"`
	// Stdin is on if a task may set the standard input; default: off.
	Stdin Switch `yaml:"stdin"`
	// Creates has the paths whose existence a task may query, as absolute paths or patterns;
	// default: none.
	Creates []string `yaml:"creates"`
}

// shorthand returns the field that a list sets.
func (c *AllowedCommand) shorthand() any { return &c.Argv }

// Artifact is the section of the artifact handler. Its lists are empty by default, which
// allows nothing.
type Artifact struct {
	// Allow lists the absolute paths of the directories to which releases may be deployed.
	Allow []string `yaml:"allow"`
	// Sources lists the URLs at and below which releases may be fetched: http, https, and
	// file for directories of this server. In a host, "*" stands for any characters.
	Sources []string `yaml:"sources"`
	// TokenFiles lists the absolute paths of the files whose token a task may send.
	TokenFiles []string `yaml:"token_files"`
}

// Script is the section of the script handler.
type Script struct {
	// Directory contains the executables, which have the names of task types; default:
	// /etc/tasker-agent/handlers.d.
	Directory string `yaml:"directory"`
}

func defaultAgent() *Agent {
	return &Agent{
		DataDir:             "/var/lib/tasker-agent",
		Metrics:             Metrics{Address: "127.0.0.1", Port: 9464},
		Handlers:            Handlers{Script: Script{Directory: "/etc/tasker-agent/handlers.d"}},
		Concurrency:         8,
		KillGrace:           tasker.Duration(10 * time.Second),
		StopTimeout:         tasker.Duration(30 * time.Second),
		UnauthorizedTimeout: tasker.Duration(time.Minute),
		Log:                 defaultLog(),
	}
}
