package config

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// shipped are the files for the modes development and production.
//
//go:embed *.config.yaml agent/*.config.yaml
var shipped embed.FS

// Source says where a configuration comes from.
type Source struct {
	// File is read when it is set.
	File string
	// Mode otherwise picks config/<mode>.config.yaml, for an agent
	// config/agent/<mode>.config.yaml: the one below the working directory, or else
	// the shipped one, which exists for development and production.
	Mode string
	// Packaged is read when neither is set and it exists; else the mode is development.
	Packaged string
	// Env looks up environment variables; nil is os.LookupEnv.
	Env func(string) (string, bool)
}

// LoadControlPlane returns the configuration of a control plane and the name of
// the file it came from. An error about the file's content is of type Problems.
// Handlers are the names of the handlers that exist, script among them.
func LoadControlPlane(src Source, handlers []string) (*ControlPlane, string, error) {
	c := defaultControlPlane()
	file, err := src.load("config", c, func(d *document) { d.checkControlPlane(c, handlers) })
	return c, file, err
}

// LoadAgent returns the configuration of an agent and the name of the file it
// came from. An error about the file's content is of type Problems. Enrolled is
// asked, when the file could be read, what is known of the agent beside it; it may
// be nil. A configuration that contradicts that is an error.
func LoadAgent(src Source, enrolled func(file string, a *Agent) (Enrolled, error)) (*Agent, string, error) {
	a := defaultAgent()
	var failed error
	file, err := src.load("config/agent", a, func(d *document) {
		var e Enrolled
		if enrolled != nil {
			e, failed = enrolled(d.file, a)
		}
		if failed == nil {
			d.checkAgent(a, e)
		}
	})
	if failed != nil {
		return a, file, failed
	}
	return a, file, err
}

// LoadEnrol reads a file with which an agent enrols when it starts. Its error is
// fs.ErrNotExist if there is none.
func LoadEnrol(src Source) (*Enrol, error) {
	e := &Enrol{}
	_, err := src.load("", e, func(d *document) { d.checkEnrol(e) })
	return e, err
}

// LoadClient returns the configuration of the CLI. A file that does not exist is
// the same as an empty one.
func LoadClient(src Source) (*Client, error) {
	c := &Client{}
	_, err := src.load("", c, func(d *document) { d.checkClient(c) })
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	return c, err
}

// Chosen is the source with what it chooses where neither file nor mode is set.
func (s Source) Chosen() Source {
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

func (s Source) load(dir string, target any, check func(*document)) (string, error) {
	file, content, err := s.Chosen().read(dir)
	if err != nil {
		return file, err
	}
	d := &document{file: file, env: s.Env}
	if d.env == nil {
		d.env = os.LookupEnv
	}
	if d.decode(content, target); d.readable() {
		check(d)
	}
	return file, d.err()
}

// read returns the content of the file and its name.
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
