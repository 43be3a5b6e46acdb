package config

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/MatthiasWiesner/tasker"
)

var labelName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9._/-]{0,62}$`)

// maxConcurrency keeps a slip of the finger from bringing a server down.
const maxConcurrency = 1024

// defaultServer is a control plane on the same machine.
const defaultServer = "http://127.0.0.1:8888"

// checkAgent reports all that is wrong.
func (d *document) checkAgent(a *Agent, e Enrolled) {
	if e.File == "" {
		d.checkEndpoint(a)
		d.checkServer(&a.Server)
	} else {
		d.checkEnrolled(a, e)
	}
	d.checkCertificates("server.ca_file", a.Server.CAFile)
	d.checkDataDir(a.DataDir)
	d.checkLabels(a.Labels)
	d.checkAddress("metrics.address", a.Metrics.Address)
	d.checkPort("metrics.port", a.Metrics.Port, 0)
	d.checkAllow(a.Handlers.Command.Allow)
	d.checkFiles(a.Handlers.File.Allow)
	d.checkScripts(a.Handlers.Script.Directory)
	d.checkDirectories("handlers.artifact.allow", a.Handlers.Artifact.Allow)
	d.checkPatterns("handlers.package.allow", a.Handlers.Package.Allow)
	d.checkPatterns("handlers.service.allow", a.Handlers.Service.Allow)
	if a.Concurrency < 1 || a.Concurrency > maxConcurrency {
		d.problem("concurrency", "%d is not from 1 to %d", a.Concurrency, maxConcurrency)
	}
	d.checkLog(a.Log)
}

func (d *document) checkEndpoint(a *Agent) {
	if a.Endpoint == "" {
		d.problem("endpoint", "is missing, and this server is not enrolled: enrol it with `tasker-agent enrol --server URL --token TOKEN` "+
			"(at the control plane `tasker enrol-token create` prints a token), "+
			"or, to go without enrolment, name it, like endpoint: loadbalancer-1, and the server to connect to")
	} else if err := tasker.ValidateEndpoint(a.Endpoint); err != nil {
		d.problem("endpoint", "%v", err)
	}
}

// checkEnrolled lets the configuration say no other than what was enrolled, and
// fills in what it leaves out. A token is of no more use, and does no harm.
func (d *document) checkEnrolled(a *Agent, e Enrolled) {
	switch {
	case a.Endpoint == "":
		a.Endpoint = e.Endpoint
	case e.Endpoint != "" && a.Endpoint != e.Endpoint:
		d.problem("endpoint", "is %q, but by %s this server is %q; remove the key, or enrol under the other name: tasker-agent enrol --force --endpoint %s --server URL --token TOKEN",
			a.Endpoint, e.File, e.Endpoint, a.Endpoint)
	}
	switch {
	case a.Server.URI == "":
		a.Server.URI = e.Servers[len(e.Servers)-1]
	case !slices.ContainsFunc(e.Servers, func(s URI) bool { return sameServer(s, a.Server.URI) }):
		d.problem("server.uri", "is %s, but by %s this server is enrolled at %s; remove the key, or enrol at the other control plane: tasker-agent enrol --force --server URL --token TOKEN",
			a.Server.URI, e.File, e.Servers[0])
	}
}

// sameServer says whether two URIs lead to the same server, whoever connects.
func sameServer(a, b URI) bool {
	u, err := url.Parse(a.Reveal())
	v, err2 := url.Parse(b.Reveal())
	return err == nil && err2 == nil && strings.EqualFold(u.Scheme, v.Scheme) && strings.EqualFold(u.Hostname(), v.Hostname()) &&
		portOf(u) == portOf(v) && strings.TrimRight(u.EscapedPath(), "/") == strings.TrimRight(v.EscapedPath(), "/")
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return map[string]string{"http": "80", "https": "443", "amqp": "5672", "amqps": "5671"}[strings.ToLower(u.Scheme)]
}

func (d *document) checkServer(s *Server) {
	if s.URI == "" {
		s.URI = defaultServer
	}
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
}

// checkEnrol reports all that is wrong.
func (d *document) checkEnrol(e *Enrol) {
	if e.Server == "" {
		d.problem("server", "is missing; name the control plane, like server: https://tasker.example.net:8888")
	} else {
		d.checkHTTP("server", e.Server)
	}
	if e.Token == "" || strings.ContainsFunc(e.Token.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		d.problem("token", "is not one word; at the control plane `tasker enrol-token create` prints an enrolment token")
	}
	if e.Endpoint != "" {
		if err := tasker.ValidateEndpoint(e.Endpoint); err != nil {
			d.problem("endpoint", "%v", err)
		}
	}
	d.checkCertificates("ca_file", e.CAFile)
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

func (d *document) checkFiles(allow []string) {
	for i, dir := range allow {
		key := fmt.Sprintf("handlers.file.allow[%d]", i)
		if dir == "/" {
			d.problem(key, "would allow every file there is; name directories")
		} else if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
			d.problem(key, "%q is not the plain absolute path of a directory, like /etc/app, without '.', '..', double slashes and one at the end", dir)
		}
	}
}

// checkDirectories allows those that do not exist: they may be made later.
func (d *document) checkDirectories(key string, dirs []string) {
	for i, dir := range dirs {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || dir == "/" {
			d.problem(fmt.Sprintf("%s[%d]", key, i), "%q is not the plain absolute path of a directory, like /srv/app", dir)
		}
	}
}

func (d *document) checkPatterns(key string, patterns []string) {
	for i, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" || strings.ContainsAny(p, "/ ") {
			d.problem(fmt.Sprintf("%s[%d]", key, i), "%q is neither a name nor a pattern like \"app-*\"", p)
		}
	}
}

// checkScripts allows a directory that does not exist: it may be filled later.
func (d *document) checkScripts(dir string) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		d.problem("handlers.script.directory", "%s is not a directory", dir)
	}
}
