package config

import (
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// checkControlPlane checks the configuration of a control plane, and fills in the default
// handlers of the task types.
func (v *validator) checkControlPlane(c *ControlPlane, handlers []string) {
	for i, name := range c.Handlers {
		if err := tasker.ValidateTaskType(name); err != nil {
			v.add(fmt.Sprintf("handlers[%d]", i), "handler %q: a name consists of a-z, 0-9, '.', '_' and '-'", name)
		}
	}
	v.checkTaskTypes(c.TaskTypes, slices.Concat(handlers, c.Handlers))
	v.checkDataDir(c.DataDir)
	v.checkStateFiles(c)
	v.checkAPI(c.API)
	v.checkDatabase(c.Database.URI)
	if c.MessageQueue.URI != "" {
		v.checkMessageQueue(c.MessageQueue.URI)
	}
	if c.MessageQueue.AgentsURI != "" {
		v.checkAgentsURI(c.MessageQueue)
	}
	v.checkHTTP("rabbitmq.apiurl", c.RabbitMQ.APIURL)
	if c.Prometheus.URI != "" {
		v.checkHTTP("prometheus.uri", c.Prometheus.URI)
	}
	v.checkAllowed("callbacks.allow", c.Callbacks.Allow)
	v.checkAllowed("gates.allow", c.Gates.Allow)
	if c.RabbitMQ.Username == "" {
		v.add("rabbitmq.username", "is empty; name a user that may administer the broker")
	}
	v.checkControlPlanePlainText(c)
	v.checkLog(c.Log)
}

// checkStateFiles checks that other users cannot read the secrets that the control plane
// has written. A missing file is created at the start.
func (v *validator) checkStateFiles(c *ControlPlane) {
	v.checkNotExposed("signing.key_file", c.SigningKeyFile())
	for _, name := range []string{"admin.token", "agent.token", "tls.key"} {
		v.checkNotExposed("data_dir", filepath.Join(c.DataDir, name))
	}
}

// checkAllowed checks a list of URLs.
func (v *validator) checkAllowed(key string, urls []string) {
	for i, u := range urls {
		v.checkHTTP(fmt.Sprintf("%s[%d]", key, i), URI(u))
	}
}

func (v *validator) checkTaskTypes(types []TaskType, handlers []string) {
	if len(types) == 0 {
		v.add("task_types", "there is no task type; list at least one, like task_types: [ping]")
	}
	first := map[string]int{}
	for i := range types {
		t, key := &types[i], fmt.Sprintf("task_types[%d]", i)
		if t.Name == "" {
			v.add(key, "has no name")
			continue
		}
		name := key + ".name"
		if err := tasker.ValidateTaskType(t.Name); err != nil {
			v.add(name, "%v", err)
		} else if line, ok := first[t.Name]; ok {
			v.add(name, "task type %q is already on line %d; remove one of the two", t.Name, line)
		}
		if _, ok := first[t.Name]; !ok {
			first[t.Name] = v.positions[key].Line
		}
		if t.Labels != "" {
			if _, err := tasker.ParseSelector(t.Labels); err != nil {
				v.add(key+".labels", "%v", err)
			}
		}
		if t.Handler == "" {
			t.Handler = defaultHandler(t.Name, handlers)
		}
		if !slices.Contains(handlers, t.Handler) {
			v.add(key+".handler", "there is no handler %q; there are %s (list the additional handlers of your agents under handlers)", t.Handler, strings.Join(handlers, ", "))
		}
	}
}

// defaultHandler returns the handler with the name of the task type, or else script.
func defaultHandler(taskType string, handlers []string) string {
	if slices.Contains(handlers, taskType) {
		return taskType
	}
	return tasker.ScriptHandler
}

func (v *validator) checkAPI(a API) {
	v.checkAddress("api.address", a.Address)
	v.checkPort("api.port", a.Port, 1)
	v.checkDuration("api.wait_for_endpoints_timeout", a.WaitForEndpointsTimeout, time.Millisecond)
	v.checkDuration("api.heartbeat", a.Heartbeat, 100*time.Millisecond)
	if a.LostAfter < 3*a.Heartbeat {
		v.add("api.lost_after", "%s is too short; it must be at least three heartbeats, %s", a.LostAfter, 3*a.Heartbeat)
	}
	if !bool(a.Auth) && !IsLoopback(a.Address) {
		v.add("api.auth", "off is allowed on loopback only, and api.address is %s; remove it, or set api.address to 127.0.0.1", a.Address)
	}
	v.checkTLS("api.tls", a.TLS)
	for i, text := range a.TrustedProxies {
		if _, err := parseNetwork(text); err != nil {
			v.add(fmt.Sprintf("api.trusted_proxies[%d]", i), "%q is neither an IP address nor a network like 10.0.0.0/8", text)
		}
	}
}

func (v *validator) checkDatabase(uri URI) {
	const key = "database.uri"
	const sqlite, mysql = "sqlite:FILE", "mysql://USER:PASSWORD@HOST:3306/DATABASE"
	switch uri.Scheme() {
	case "sqlite":
		file := uri.Reveal()[len("sqlite:"):]
		switch {
		case file == "" || strings.HasSuffix(file, "/"):
			v.add(key, "names no file; write it like sqlite:tasker.db")
		case strings.HasPrefix(file, ":memory:"):
			v.add(key, "a database in memory would lose accepted tasks; write it like sqlite:tasker.db")
		case strings.ContainsAny(file, "?#"):
			v.add(key, "%s: parameters are not supported; write it like sqlite:tasker.db", uri)
		}
	case "mysql":
		u, ok := v.checkURI(key, uri, mysql)
		switch {
		case !ok:
		case u.User.Username() == "":
			v.add(key, "%s has no user; write it like %s", uri, mysql)
		case path.Clean(u.Path) == "/" || u.Path == "" || strings.Count(u.Path, "/") > 1:
			v.add(key, "%s names no database; write it like %s", uri, mysql)
		}
	default:
		v.add(key, "%q is neither %s nor %s", uri, sqlite, mysql)
	}
}

func (v *validator) checkMessageQueue(uri URI) {
	const key = "message_queue.uri"
	switch uri.Scheme() {
	case "amqp", "amqps":
		v.checkAMQP(key, uri)
	default:
		v.add(key, `%q is not like %s; leave it empty ("") for agents that connect to the API`, uri, amqpForm)
	}
}

// checkAgentsURI checks the URI that agents receive when they enrol.
func (v *validator) checkAgentsURI(q MessageQueue) {
	const key, form = "message_queue.agents_uri", "amqp://HOST:5672 or amqps://HOST:5671"
	if q.URI == "" {
		v.add(key, "cannot be used without message_queue.uri, because agents connect to the API; remove it")
		return
	}
	if s := q.AgentsURI.Scheme(); s != "amqp" && s != "amqps" {
		v.add(key, "%q is not like %s", q.AgentsURI, form)
		return
	}
	u, ok := v.checkURI(key, q.AgentsURI, form)
	if !ok {
		return
	}
	own, err := url.Parse(q.URI.Reveal())
	switch path := strings.Trim(u.EscapedPath(), "/"); {
	case u.User != nil:
		v.add(key, "has a user in it; each agent gets its own, write it like %s", form)
	case u.RawQuery != "":
		v.add(key, "%s has a part after ?; remove it", q.AgentsURI)
	case path != "" && err == nil && path != strings.TrimPrefix(own.EscapedPath(), "/"):
		v.add(key, "%s names another vhost than message_queue.uri; leave the vhost out", q.AgentsURI)
	}
}
