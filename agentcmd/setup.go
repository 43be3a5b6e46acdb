package agentcmd

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/internal/identity"
)

// requestFile lies beside the configuration file; with it the agent enrols when it
// starts.
const requestFile = "enrol.yaml"

// setup is what an agent is started with.
type setup struct {
	src    config.Source
	config *config.Agent
	// file is where the configuration is from.
	file string
	// identity is nil for an agent that is not enrolled.
	identity *identity.Identity
	// request is nil where there is no requestFile.
	request *config.Enrol
}

// load reads the configuration and who this server is. An agent that is not
// enrolled and would not become so has to be named by its configuration.
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
		return s.standing(c)
	})
	return s, err
}

// standing is what is known of the agent beside its configuration.
func (s *setup) standing(c *config.Agent) (config.Enrolled, error) {
	var err error
	s.identity, err = identity.Load(c.DataDir)
	switch {
	case err == nil:
		i := s.identity
		return config.Enrolled{
			File: identity.File(c.DataDir), Endpoint: i.Endpoint,
			Servers: []config.URI{config.URI(i.ControlPlane), config.URI(i.Server)},
		}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return config.Enrolled{}, err
	case s.request != nil:
		return config.Enrolled{File: s.requestFile(), Endpoint: s.request.Endpoint, Servers: []config.URI{s.request.Server}}, nil
	}
	return config.Enrolled{}, nil
}

func (s *setup) requestFile() string { return filepath.Join(filepath.Dir(s.file), requestFile) }

// says is what check-config has to say of a setup that is in order.
func (s *setup) says() string {
	switch {
	case s.identity != nil:
		return fmt.Sprintf("%s is in order; this server is enrolled as %s", s.file, s.identity.Endpoint)
	case s.request != nil:
		return fmt.Sprintf("%s is in order; this server enrols with %s when the agent starts", s.file, s.requestFile())
	}
	return s.file + " is in order"
}
