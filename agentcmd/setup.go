package agentcmd

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/internal/daemon"
	"github.com/MatthiasWiesner/tasker/internal/identity"
)

// requestFile is the name of a file beside the configuration. If it exists, the agent
// enrols with its content at the start.
const requestFile = "enrol.yaml"

// setup is all that an agent reads from files at its start.
type setup struct {
	src    config.Source
	config *config.Agent
	// file is the configuration file.
	file string
	// identity is nil if the agent has not enrolled.
	identity *identity.Identity
	// request is nil if there is no requestFile.
	request *config.Enrol
}

// load reads the configuration, the request file and the identity. The configuration must
// name the endpoint if there is neither of the others.
func load(src config.Source) (*setup, error) {
	s := &setup{src: src}
	var err error
	s.config, s.file, err = config.LoadAgent(src, func(file string, c *config.Agent) (config.Enrolled, error) {
		s.file = file
		var err error
		if s.request, err = config.LoadEnrol(config.Source{File: s.requestFile(), Env: src.Env}); errors.Is(err, fs.ErrNotExist) {
			s.request, err = nil, nil
		}
		if err != nil {
			return config.Enrolled{}, err
		}
		return s.loadIdentity(c)
	})
	return s, err
}

// loadIdentity reads the identity, and returns what it, or else the request file, says
// about the endpoint and the servers.
func (s *setup) loadIdentity(c *config.Agent) (config.Enrolled, error) {
	var err error
	s.identity, err = identity.Load(c.DataDir)
	switch {
	case err == nil:
		i := s.identity
		e := config.Enrolled{
			File: identity.File(c.DataDir), Endpoint: i.Endpoint,
			Servers: []config.URI{config.URI(i.ControlPlane), config.URI(i.Server)},
		}
		if s.request != nil {
			e.Request = s.request.Server
		}
		return e, nil
	case !errors.Is(err, fs.ErrNotExist):
		return config.Enrolled{}, err
	case s.request != nil:
		return config.Enrolled{File: s.requestFile(), Endpoint: s.request.Endpoint, Servers: []config.URI{s.request.Server}}, nil
	}
	return config.Enrolled{}, nil
}

func (s *setup) requestFile() string { return filepath.Join(filepath.Dir(s.file), requestFile) }

// reloadLogLevel sets the log level of the configuration. While the configuration is not
// valid, the level stays. Token and certificate files need no reload: the agent reads
// them when it connects.
func (s *setup) reloadLogLevel(log *slog.Logger, level *slog.LevelVar) {
	next, err := load(s.src)
	if err != nil {
		log.Error("the configuration is not valid and was not reloaded", "file", s.file, "error", err)
		return
	}
	daemon.SetLevel(level, next.config.Log)
	log.Info("reloaded: log level; other settings need a restart", "file", s.file)
}

// summary describes a valid setup for check-config.
func (s *setup) summary() string {
	switch {
	case s.identity != nil:
		return fmt.Sprintf("%s is valid; this server is enrolled as %s", s.file, s.identity.Endpoint)
	case s.request != nil:
		return fmt.Sprintf("%s is valid; this server enrols with %s when the agent starts", s.file, s.requestFile())
	}
	return s.file + " is valid"
}
