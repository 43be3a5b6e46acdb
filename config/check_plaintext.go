package config

import (
	"net"
	"net/url"
	"slices"
	"strings"
)

// allowPlainText is the advice for a connection to another machine without encryption.
const allowPlainText = "or, if you trust the network between, add this line: allow_plain_text: true"

// checkControlPlanePlainText reports connections of a control plane to other machines that
// are not encrypted. Prometheus is left out: it gets and sends no secret.
func (v *validator) checkControlPlanePlainText(c *ControlPlane) {
	if c.AllowPlainText {
		return
	}
	if c.API.TLS.Mode == tlsOff && !IsLoopback(c.API.Address) {
		v.add("api.tls", "off exposes tokens and orders to the network, because api.address is %s; remove it, %s", c.API.Address, allowPlainText)
	}
	if isPlainMySQL(c.Database.URI) {
		v.add("database.uri", "%s is not encrypted and exposes the password and all tasks to the network; add ?tls=true (or ?tls=skip-verify, which does not verify the server), %s", c.Database.URI, allowPlainText)
	}
	if c.MessageQueue.URI == "" {
		return
	}
	for key, uri := range map[string]URI{"message_queue.uri": c.MessageQueue.URI, "message_queue.agents_uri": c.MessageQueue.AgentsURI, "rabbitmq.apiurl": c.RabbitMQ.APIURL} {
		if isPlainText(uri) {
			v.add(key, "%s is not encrypted and exposes passwords to the network; use %ss, %s", uri, uri.Scheme(), allowPlainText)
		}
	}
}

// checkAgentPlainText reports connections of an agent to other machines that are not
// encrypted, and orders of other machines that would not be signed. servers are those of
// the enrolment, or else the server of the configuration.
func (v *validator) checkAgentPlainText(a *Agent, isEnrolled bool, servers []URI) {
	if slices.ContainsFunc(v.problems, func(p Problem) bool { return isWithin("server", p.Key) }) {
		return // a correction may change the server
	}
	for _, uri := range servers {
		if isPlainText(uri) && !bool(a.AllowPlainText) {
			v.add("server.uri", "%s is not encrypted and exposes this server's credential to the network; use %ss, %s", uri, uri.Scheme(), allowPlainText)
		}
		if !isEnrolled && !isLocal(uri) && !bool(a.AcceptUnsignedOrders) {
			v.add("accept_unsigned_orders", "this server has not enrolled, so it cannot verify that orders of %s are the control plane's; "+
				"enrol it with `tasker-agent enrol --server URL --token TOKEN`, or, if you trust that server and the network between, add this line: accept_unsigned_orders: true", uri)
		}
	}
}

// isPlainText reports whether a URI leads to another machine without encryption.
func isPlainText(uri URI) bool {
	return (uri.Scheme() == "http" || uri.Scheme() == "amqp") && !isLocal(uri)
}

// isPlainMySQL reports whether the connection to a MySQL server may be unencrypted and
// leaves this machine.
func isPlainMySQL(uri URI) bool {
	u, err := url.Parse(uri.Reveal())
	if err != nil || uri.Scheme() != "mysql" {
		return false
	}
	q := u.Query()
	if tls := q["tls"]; len(tls) > 0 && slices.Contains([]string{"true", "skip-verify"}, tls[len(tls)-1]) {
		return false
	}
	return q.Get("socket") == "" && !isLocal(uri)
}

// isLocal reports whether a URI leads to this machine. An invalid URI does: it is reported
// elsewhere.
func isLocal(uri URI) bool {
	u, err := url.Parse(uri.Reveal())
	if err != nil || u.Hostname() == "" {
		return true
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	ip := net.ParseIP(host)
	return IsLoopback(host) || ip != nil && ip.IsLoopback()
}
