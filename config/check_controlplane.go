package config

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// checkControlPlane reports all that is wrong, and fills in the handlers of the
// task types that name none.
func (d *document) checkControlPlane(c *ControlPlane, handlers []string) {
	for i, name := range c.Handlers {
		if err := tasker.ValidateTaskType(name); err != nil {
			d.problem(fmt.Sprintf("handlers[%d]", i), "handler %q: a name has a-z, 0-9, '.', '_' and '-'", name)
		}
	}
	d.checkTaskTypes(c.TaskTypes, slices.Concat(handlers, c.Handlers))
	d.checkDataDir(c.DataDir)
	d.checkAPI(c.API)
	d.checkDatabase(c.Database.URI)
	if c.MessageQueue.URI != "" {
		d.checkMessageQueue(c.MessageQueue.URI)
	}
	if c.MessageQueue.AgentsURI != "" {
		d.checkAgentsURI(c.MessageQueue)
	}
	d.checkHTTP("rabbitmq.apiurl", c.RabbitMQ.APIURL)
	if c.Prometheus.URI != "" {
		d.checkHTTP("prometheus.uri", c.Prometheus.URI)
	}
	d.checkAllowed("callbacks.allow", c.Callbacks.Allow)
	d.checkAllowed("gates.allow", c.Gates.Allow)
	if c.RabbitMQ.Username == "" {
		d.problem("rabbitmq.username", "is empty; name a user that may administer the broker")
	}
	d.checkLog(c.Log)
}

// checkAllowed checks a list of URLs.
func (d *document) checkAllowed(key string, urls []string) {
	for i, u := range urls {
		d.checkHTTP(fmt.Sprintf("%s[%d]", key, i), URI(u))
	}
}

func (d *document) checkTaskTypes(types []TaskType, handlers []string) {
	if len(types) == 0 {
		d.problem("task_types", "there is none; list at least one, like task_types: [ping]")
	}
	first := map[string]int{}
	for i := range types {
		t, key := &types[i], fmt.Sprintf("task_types[%d]", i)
		if t.Name == "" {
			d.problem(key, "has no name")
			continue
		}
		name := key + ".name"
		if err := tasker.ValidateTaskType(t.Name); err != nil {
			d.problem(name, "%v", err)
		} else if line, ok := first[t.Name]; ok {
			d.problem(name, "task type %q is on line %d already; remove one of the two", t.Name, line)
		}
		if _, ok := first[t.Name]; !ok {
			first[t.Name] = d.at[key].Line
		}
		if t.Handler == "" {
			t.Handler = defaultHandler(t.Name, handlers)
		}
		if !slices.Contains(handlers, t.Handler) {
			d.problem(key+".handler", "there is no handler %q; there are %s (name those that your agents have compiled in under handlers)", t.Handler, strings.Join(handlers, ", "))
		}
	}
}

// defaultHandler is the handler that is named as the type, or else script.
func defaultHandler(taskType string, handlers []string) string {
	if slices.Contains(handlers, taskType) {
		return taskType
	}
	return tasker.ScriptHandler
}

func (d *document) checkAPI(a API) {
	d.checkAddress("api.address", a.Address)
	d.checkPort("api.port", a.Port, 1)
	d.checkDuration("api.wait_for_endpoints_timeout", a.WaitForEndpointsTimeout, time.Millisecond)
	d.checkDuration("api.heartbeat", a.Heartbeat, 100*time.Millisecond)
	if a.LostAfter < 3*a.Heartbeat {
		d.problem("api.lost_after", "%s is too short; it must be at least three heartbeats, %s", a.LostAfter, 3*a.Heartbeat)
	}
	if !bool(a.Auth) && !IsLoopback(a.Address) {
		d.problem("api.auth", "off is allowed on loopback only, and api.address is %s; remove it, or set api.address to 127.0.0.1", a.Address)
	}
	d.checkTLS("api.tls", a.TLS)
}

func (d *document) checkDatabase(uri URI) {
	const key = "database.uri"
	const sqlite, mysql = "sqlite:FILE", "mysql://USER:PASSWORD@HOST:3306/DATABASE"
	switch uri.Scheme() {
	case "sqlite":
		file := uri.Reveal()[len("sqlite:"):]
		switch {
		case file == "" || strings.HasSuffix(file, "/"):
			d.problem(key, "names no file; write it like sqlite:tasker.db")
		case strings.HasPrefix(file, ":memory:"):
			d.problem(key, "a database in memory would lose accepted tasks; write it like sqlite:tasker.db")
		case strings.ContainsAny(file, "?#"):
			d.problem(key, "%s: parameters are not supported; write it like sqlite:tasker.db", uri)
		}
	case "mysql":
		u, ok := d.checkURI(key, uri, mysql)
		switch {
		case !ok:
		case u.User.Username() == "":
			d.problem(key, "%s has no user; write it like %s", uri, mysql)
		case path.Clean(u.Path) == "/" || u.Path == "" || strings.Count(u.Path, "/") > 1:
			d.problem(key, "%s names no database; write it like %s", uri, mysql)
		}
	default:
		d.problem(key, "%q is neither %s nor %s", uri, sqlite, mysql)
	}
}

func (d *document) checkMessageQueue(uri URI) {
	const key = "message_queue.uri"
	switch uri.Scheme() {
	case "amqp", "amqps":
		d.checkAMQP(key, uri)
	default:
		d.problem(key, `%q is not like %s; leave it empty ("") for agents that connect to the API`, uri, amqpForm)
	}
}

// checkAgentsURI checks where agents are told to connect to.
func (d *document) checkAgentsURI(q MessageQueue) {
	const key, form = "message_queue.agents_uri", "amqp://HOST:5672 or amqps://HOST:5671"
	if q.URI == "" {
		d.problem(key, "is of no use without message_queue.uri; remove it, agents connect to the API")
		return
	}
	if s := q.AgentsURI.Scheme(); s != "amqp" && s != "amqps" {
		d.problem(key, "%q is not like %s", q.AgentsURI, form)
		return
	}
	u, ok := d.checkURI(key, q.AgentsURI, form)
	if !ok {
		return
	}
	own, err := url.Parse(q.URI.Reveal())
	switch path := strings.Trim(u.EscapedPath(), "/"); {
	case u.User != nil:
		d.problem(key, "has a user in it; each agent gets its own, write it like %s", form)
	case u.RawQuery != "":
		d.problem(key, "%s has a part after ?; remove it", q.AgentsURI)
	case path != "" && err == nil && path != strings.TrimPrefix(own.EscapedPath(), "/"):
		d.problem(key, "%s names another vhost than message_queue.uri; leave the vhost out", q.AgentsURI)
	}
}
