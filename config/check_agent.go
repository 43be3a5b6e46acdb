package config

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/MatthiasWiesner/tasker"
)

var labelName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9._/-]{0,62}$`)

// maxConcurrency keeps a slip of the finger from bringing a server down.
const maxConcurrency = 1024

// checkAgent reports all that is wrong.
func (d *document) checkAgent(a *Agent) {
	if a.Endpoint == "" {
		d.problem("endpoint", "is missing; name this server, like endpoint: loadbalancer-1")
	} else if err := tasker.ValidateEndpoint(a.Endpoint); err != nil {
		d.problem("endpoint", "%v", err)
	}
	d.checkServer(a.Server)
	d.checkDataDir(a.DataDir)
	d.checkLabels(a.Labels)
	d.checkAddress("metrics.address", a.Metrics.Address)
	d.checkPort("metrics.port", a.Metrics.Port, 0)
	d.checkAllow(a.Handlers.Command.Allow)
	d.checkScripts(a.Handlers.Script.Directory)
	if a.Concurrency < 1 || a.Concurrency > maxConcurrency {
		d.problem("concurrency", "%d is not from 1 to %d", a.Concurrency, maxConcurrency)
	}
	d.checkLog(a.Log)
}

func (d *document) checkServer(s Server) {
	switch s.URI.Scheme() {
	case "http", "https":
		d.checkHTTP("server.uri", s.URI)
		d.checkToken("server.token_file", s.TokenFile)
	case "amqp", "amqps":
		d.checkAMQP("server.uri", s.URI)
		if s.TokenFile != "" {
			d.problem("server.token_file", "is of no use with amqp, where user and password say who connects; remove it")
		}
	default:
		d.problem("server.uri", "%q is like neither http://HOST:PORT nor %s", s.URI, amqpForm)
	}
	d.checkCertificates("server.ca_file", s.CAFile)
}

func (d *document) checkLabels(labels map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		key, value := "labels."+name, labels[name]
		if !labelName.MatchString(name) {
			d.problem(key, "a label's name has 1 to 63 letters, digits, '.', '_', '/' and '-', and begins with a letter or '_'")
		} else if len(value) > 255 || strings.ContainsFunc(value, unicode.IsControl) {
			d.problem(key, "a label's value has at most 255 bytes and no control characters")
		}
	}
}

func (d *document) checkAllow(allow [][]string) {
	for i, argv := range allow {
		key := fmt.Sprintf("handlers.command.allow[%d]", i)
		switch {
		case len(argv) == 0:
			d.problem(key, `is empty; write a command line like ["/bin/sleep", "*"]`)
		case argv[0] == "*":
			d.problem(key+"[0]", "would allow any program; name one by its absolute path")
		case !strings.HasPrefix(argv[0], "/"):
			d.problem(key+"[0]", "%q is no absolute path", argv[0])
		}
	}
}

// checkScripts allows a directory that does not exist: it may be filled later.
func (d *document) checkScripts(dir string) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		d.problem("handlers.script.directory", "%s is not a directory", dir)
	}
}
