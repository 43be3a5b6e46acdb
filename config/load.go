package config

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml/token"

	"github.com/MatthiasWiesner/tasker/internal/textfile"
)

// shipped contains the files for the modes development and production.
//
//go:embed *.config.yaml agent/*.config.yaml
var shipped embed.FS

// Source describes where to find a configuration.
type Source struct {
	// File is the file to read. If it is set, Mode is ignored.
	File string
	// Mode selects config/<mode>.config.yaml, or for an agent
	// config/agent/<mode>.config.yaml: the file below the working directory, or else the
	// shipped one, which exists for development and production.
	Mode string
	// Packaged is the file to read if neither File nor Mode is set. If it does not exist,
	// the mode is development.
	Packaged string
	// Env returns the value of an environment variable; nil is os.LookupEnv.
	Env func(string) (string, bool)
}

// LoadControlPlane returns the configuration of a control plane and the name of its file.
// An invalid configuration is an error of type Problems. Handlers are the names of all
// known handlers, including script.
func LoadControlPlane(src Source, handlers []string) (*ControlPlane, string, error) {
	c := defaultControlPlane()
	file, err := src.load("config", c, func(v *validator) { v.checkControlPlane(c, handlers) })
	return c, file, err
}

// LoadAgent returns the configuration of an agent and the name of its file. An invalid
// configuration is an error of type Problems. If enrolled is not nil, it is called after
// the file was parsed and returns the agent's enrolment; a configuration that contradicts
// it is invalid.
func LoadAgent(src Source, enrolled func(file string, a *Agent) (Enrolled, error)) (*Agent, string, error) {
	a := defaultAgent()
	var enrolErr error
	file, err := src.load("config/agent", a, func(v *validator) {
		var e Enrolled
		if enrolled != nil {
			e, enrolErr = enrolled(v.file, a)
		}
		if enrolErr == nil {
			v.checkAgent(a, e)
		}
	})
	if enrolErr != nil {
		return a, file, enrolErr
	}
	return a, file, err
}

// LoadEnrol reads the file with which an agent enrols when it starts. The error wraps
// fs.ErrNotExist if there is no file.
func LoadEnrol(src Source) (*Enrol, error) {
	e := &Enrol{}
	_, err := src.load("", e, func(v *validator) { v.checkEnrol(e) })
	return e, err
}

// LoadClient returns the configuration of the CLI. A missing file is the same as an empty
// one.
func LoadClient(src Source) (*Client, error) {
	c := &Client{}
	_, err := src.load("", c, func(v *validator) { v.checkClient(c) })
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	return c, err
}

// Resolve returns the source with its file or mode set.
func (s Source) Resolve() Source {
	if s.File != "" || s.Mode != "" {
		return s
	}
	if _, err := os.Stat(s.Packaged); s.Packaged != "" && !errors.Is(err, fs.ErrNotExist) {
		s.File = s.Packaged
	} else {
		s.Mode = "development"
	}
	return s
}

// load reads and decodes the file, and then calls check. It returns the name of the file.
func (s Source) load(dir string, target any, check func(*validator)) (string, error) {
	file, content, err := s.Resolve().read(dir)
	if err != nil {
		return file, err
	}
	if content, err = textfile.TrimMark(content); err != nil {
		return file, fmt.Errorf("%s: %w", file, err)
	}
	r := &report{file: file, positions: map[string]token.Position{}}
	d := decoder{report: r, env: s.Env}
	if d.env == nil {
		d.env = os.LookupEnv
	}
	if d.decode(content, target); r.isReadable() {
		v := &validator{r}
		check(v)
		v.checkPrivate(d.secrets)
	}
	return file, r.err()
}

// read returns the name of the file and its content.
func (s Source) read(dir string) (string, []byte, error) {
	if s.File != "" {
		content, err := os.ReadFile(s.File)
		if err != nil {
			return s.File, nil, fmt.Errorf("read the configuration: %w", err)
		}
		return s.File, content, nil
	}
	if strings.ContainsAny(s.Mode, `/\`) {
		return "", nil, fmt.Errorf("mode %q: a mode is a word like development or production", s.Mode)
	}
	file := filepath.Join(dir, s.Mode+".config.yaml")
	content, err := os.ReadFile(file)
	if !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			err = fmt.Errorf("read the configuration: %w", err)
		}
		return file, content, err
	}
	content, err = shipped.ReadFile(strings.TrimPrefix(filepath.ToSlash(file), "config/"))
	if err != nil {
		return file, nil, fmt.Errorf("mode %q: there is no %s here, and only development and production are shipped", s.Mode, file)
	}
	return file + " (shipped)", content, nil
}
