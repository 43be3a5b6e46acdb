package config

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/MatthiasWiesner/tasker"
)

// maxConcurrency protects the server from typing errors.
const maxConcurrency = 1024

// defaultServer is the URI of a control plane on the same machine.
const defaultServer = "http://127.0.0.1:8888"

// checkAgent checks the configuration of an agent.
func (v *validator) checkAgent(a *Agent, e Enrolled) {
	if e.File == "" {
		v.checkEndpoint(a)
		v.checkServer(&a.Server)
		v.checkAgentPlainText(a, false, []URI{a.Server.URI})
	} else {
		v.checkEnrolled(a, e)
		v.checkAgentPlainText(a, true, append(slices.Clone(e.Servers), e.Request))
	}
	v.checkCertificates("server.ca_file", a.Server.CAFile)
	v.checkDataDir(a.DataDir)
	v.checkLabels(a.Labels)
	v.checkAddress("metrics.address", a.Metrics.Address)
	v.checkPort("metrics.port", a.Metrics.Port, 0)
	if a.Metrics.Advertise != "" && a.Metrics.Port != 0 && !tasker.IsMetricsAddress(a.Metrics.AdvertisedAddress()) {
		v.add("metrics.advertise", "%q is neither HOST nor HOST:PORT at which Prometheus can scrape this server, like web-1.example.net:9464", a.Metrics.Advertise)
	}
	v.checkAllow(a.Handlers.Command.Allow)
	v.checkDirectories("handlers.file.allow", a.Handlers.File.Allow)
	v.checkScripts(a.Handlers.Script.Directory)
	v.checkDirectories("handlers.artifact.allow", a.Handlers.Artifact.Allow)
	v.checkSources("handlers.artifact.sources", a.Handlers.Artifact.Sources)
	v.checkPlainPaths("handlers.artifact.token_files", a.Handlers.Artifact.TokenFiles)
	v.checkPatterns("handlers.package.allow", a.Handlers.Package.Allow)
	v.checkPatterns("handlers.service.allow", a.Handlers.Service.Allow)
	if a.Concurrency < 1 || a.Concurrency > maxConcurrency {
		v.add("concurrency", "%d is not from 1 to %d", a.Concurrency, maxConcurrency)
	}
	v.checkLog(a.Log)
}

func (v *validator) checkEndpoint(a *Agent) {
	if a.Endpoint == "" {
		v.add("endpoint", "is missing, and this server is not enrolled: enrol it with `tasker-agent enrol --server URL --token TOKEN` "+
			"(at the control plane `tasker enrol-token create` prints a token), "+
			"or, to go without enrolment, name it, like endpoint: loadbalancer-1, and the server to connect to")
	} else if err := tasker.ValidateEndpoint(a.Endpoint); err != nil {
		v.add("endpoint", "%v", err)
	}
}

// checkEnrolled reports keys that contradict the enrolment, and fills in missing ones. It
// ignores a token file, which an enrolled agent does not need.
func (v *validator) checkEnrolled(a *Agent, e Enrolled) {
	switch {
	case a.Endpoint == "":
		a.Endpoint = e.Endpoint
	case e.Endpoint != "" && a.Endpoint != e.Endpoint:
		v.add("endpoint", "is %q, but according to %s this server is %q; remove the key, or enrol under the other name: tasker-agent enrol --force --endpoint %s --server URL --token TOKEN",
			a.Endpoint, e.File, e.Endpoint, a.Endpoint)
	}
	switch {
	case a.Server.URI == "":
		a.Server.URI = e.Servers[len(e.Servers)-1]
	case !slices.ContainsFunc(e.Servers, func(s URI) bool { return sameServer(s, a.Server.URI) }):
		v.add("server.uri", "is %s, but according to %s this server is enrolled at %s; remove the key, or enrol at the other control plane: tasker-agent enrol --force --server URL --token TOKEN",
			a.Server.URI, e.File, e.Servers[0])
	}
}

// sameServer reports whether two URIs lead to the same server, regardless of the user.
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

func (v *validator) checkServer(s *Server) {
	if s.URI == "" {
		s.URI = defaultServer
	}
	switch s.URI.Scheme() {
	case "http", "https":
		v.checkHTTP("server.uri", s.URI)
		v.checkToken("server.token_file", s.TokenFile)
	case "amqp", "amqps":
		v.checkAMQP("server.uri", s.URI)
		if s.TokenFile != "" {
			v.add("server.token_file", "cannot be used with amqp, where user and password identify the agent; remove it")
		}
	default:
		v.add("server.uri", "%q is like neither http://HOST:PORT nor %s", s.URI, amqpForm)
	}
}

// checkEnrol checks the file with which an agent enrols.
func (v *validator) checkEnrol(e *Enrol) {
	if e.Server == "" {
		v.add("server", "is missing; name the control plane, like server: https://tasker.example.net:8888")
	} else {
		v.checkHTTP("server", e.Server)
	}
	if e.Token == "" || strings.ContainsFunc(e.Token.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		v.add("token", "is not one word; at the control plane `tasker enrol-token create` prints an enrolment token")
	}
	if e.Endpoint != "" {
		if err := tasker.ValidateEndpoint(e.Endpoint); err != nil {
			v.add("endpoint", "%v", err)
		}
	}
	v.checkCertificates("ca_file", e.CAFile)
}

func (v *validator) checkLabels(labels map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		key, value := "labels."+name, labels[name]
		if err := tasker.ValidateLabel(name, value); err != nil {
			v.add(key, "%v", err)
		}
	}
}

func (v *validator) checkAllow(allow []AllowedCommand) {
	for i, command := range allow {
		key := fmt.Sprintf("handlers.command.allow[%d]", i)
		program := key + "[0]"
		if _, ok := v.positions[key+".argv"]; ok {
			program = key + ".argv[0]"
		}
		switch argv := command.Argv; {
		case len(argv) == 0:
			v.add(key, `is empty; write a command line like ["/bin/sleep", "*"]`)
		case argv[0] == "*":
			v.add(program, "would allow any program; name one by its absolute path")
		case !strings.HasPrefix(argv[0], "/"):
			v.add(program, "%q is not an absolute path", argv[0])
		}
		v.checkPathPatterns(key+".cwd", command.Cwd)
		v.checkPathPatterns(key+".creates", command.Creates)
	}
}

func (v *validator) checkPathPatterns(key string, patterns []string) {
	for i, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || !filepath.IsAbs(p) || filepath.Clean(p) != p {
			v.add(fmt.Sprintf("%s[%d]", key, i), "%q is neither a plain absolute path nor a pattern like \"/srv/*\"", p)
		}
	}
}

// checkDirectories accepts directories that do not exist yet.
func (v *validator) checkDirectories(key string, dirs []string) {
	for i, dir := range dirs {
		if dir == "/" {
			v.add(fmt.Sprintf("%s[%d]", key, i), "would allow every file; name directories by their plain absolute paths")
		} else if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
			v.add(fmt.Sprintf("%s[%d]", key, i), "%q is not the plain absolute path of a directory, like /srv/app, without '.', '..', double slashes and a slash at the end", dir)
		}
	}
}

// checkSources checks the URLs from which releases may be fetched.
func (v *validator) checkSources(key string, urls []string) {
	for i, text := range urls {
		u, err := url.Parse(text)
		key := fmt.Sprintf("%s[%d]", key, i)
		switch {
		case err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "":
			v.add(key, "is not a plain URL, like https://mirror.example.net/app, without user and query")
		case u.Scheme == "file" && (u.Host != "" || !filepath.IsAbs(u.Path) || filepath.Clean(u.Path) != u.Path):
			v.add(key, "%q is not like file:///var/cache/releases, with the plain absolute path of a directory", text)
		case u.Scheme != "file" && (u.Scheme != "http" && u.Scheme != "https" || u.Host == ""):
			v.add(key, "%q begins with neither https://HOST, http://HOST nor file:///", text)
		}
	}
}

// checkPlainPaths accepts files that do not exist yet.
func (v *validator) checkPlainPaths(key string, files []string) {
	for i, file := range files {
		if !filepath.IsAbs(file) || filepath.Clean(file) != file {
			v.add(fmt.Sprintf("%s[%d]", key, i), "%q is not the plain absolute path of a file", file)
		}
	}
}

func (v *validator) checkPatterns(key string, patterns []string) {
	for i, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" || strings.ContainsAny(p, "/ ") {
			v.add(fmt.Sprintf("%s[%d]", key, i), "%q is neither a name nor a pattern like \"app-*\"", p)
		}
	}
}

// checkScripts accepts a directory that does not exist yet.
func (v *validator) checkScripts(dir string) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		v.add("handlers.script.directory", "%s is not a directory", dir)
	}
}
