package config

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// host names are checked by their letters only; whether one exists is not known here.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?$`)

// IsLoopback says whether an address is reachable from this machine only.
func IsLoopback(address string) bool {
	ip, err := netip.ParseAddr(address)
	return address == "localhost" || err == nil && ip.IsLoopback()
}

func (d *document) checkAddress(key, address string) {
	if address == "" {
		d.problem(key, "is empty; 127.0.0.1 listens on this machine only, 0.0.0.0 everywhere")
		return
	}
	if _, err := netip.ParseAddr(address); err != nil && address != "localhost" {
		d.problem(key, "%q is no IP address; 127.0.0.1 listens on this machine only, 0.0.0.0 everywhere", address)
	}
}

func (d *document) checkPort(key string, port, least int) {
	if port < least || port > 65535 {
		d.problem(key, "%d is no port; write a number from %d to 65535", port, least)
	}
}

func (d *document) checkDuration(key string, v tasker.Duration, least time.Duration) {
	if v.D() < least {
		d.problem(key, "%s is too short; it must be at least %s", v, least)
	}
}

func (d *document) checkDataDir(dir string) {
	if dir == "" {
		d.problem("data_dir", "is empty; name a directory, or leave the key out")
		return
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		d.problem("data_dir", "%s is not a directory", dir)
	}
}

func (d *document) checkLog(l Log) {
	d.checkWord("log.level", l.Level, "debug", "info", "warn", "error")
	d.checkWord("log.format", l.Format, "auto", "text", "json")
}

func (d *document) checkWord(key, word string, allowed ...string) {
	if !slices.Contains(allowed, word) {
		d.problem(key, "%q is none of %s", word, strings.Join(allowed, ", "))
	}
}

// checkURI parses a URI that has a host. What url.Parse says is not passed on:
// it may quote the password.
func (d *document) checkURI(key string, uri URI, form string) (*url.URL, bool) {
	u, err := url.Parse(uri.Reveal())
	switch {
	case err != nil:
		d.problem(key, "is no valid URI; write it like %s, with special characters in user and password percent-encoded", form)
		return nil, false
	case u.Hostname() == "" || !validHost(u.Hostname()):
		d.problem(key, "%s names no valid host; write it like %s", uri, form)
		return nil, false
	case u.Port() != "" && !validPort(u.Port()):
		d.problem(key, "%s: port %s is not from 1 to 65535", uri, u.Port())
		return nil, false
	case u.Fragment != "":
		d.problem(key, "%s has a part after #; percent-encode # as %%23", uri)
		return nil, false
	}
	return u, true
}

func validHost(host string) bool {
	return net.ParseIP(host) != nil || hostName.MatchString(host)
}

func validPort(port string) bool {
	n, err := strconv.Atoi(port)
	return err == nil && n >= 1 && n <= 65535
}

// checkHTTP checks the address of a server.
func (d *document) checkHTTP(key string, uri URI) {
	const form = "http://HOST:PORT or https://HOST:PORT"
	if s := uri.Scheme(); s != "http" && s != "https" {
		d.problem(key, "%q is no URL; write it like %s", uri, form)
		return
	}
	u, ok := d.checkURI(key, uri, form)
	if ok && u.User != nil {
		d.problem(key, "has a user in it; a token says who calls, see token_file")
	} else if ok && u.RawQuery != "" {
		d.problem(key, "%s has a part after ?; remove it", uri)
	}
}

const amqpForm = "amqp://USER:PASSWORD@HOST:5672/VHOST"

// checkAMQP checks the address of a broker.
func (d *document) checkAMQP(key string, uri URI) {
	u, ok := d.checkURI(key, uri, amqpForm)
	if !ok {
		return
	}
	password, _ := u.User.Password()
	vhost := strings.TrimPrefix(u.EscapedPath(), "/")
	switch {
	case u.User.Username() == "" || password == "":
		d.problem(key, "%s has no user and password; write it like %s", uri, amqpForm)
	case vhost == "":
		d.problem(key, "%s has no vhost; write it like %s (the vhost / is written %%2F)", uri, amqpForm)
	case strings.Contains(vhost, "/"):
		d.problem(key, "%s has more than one / after the host; write a / in the vhost as %%2F", uri)
	}
}

// checkToken checks that a token can be read.
func (d *document) checkToken(key, file string) {
	if _, err := readToken(file); err != nil {
		d.problem(key, "%v; the control plane writes tokens into its data_dir at its first start", err)
	}
}

// checkCertificates checks that a file holds certificates.
func (d *document) checkCertificates(key, file string) {
	if file == "" {
		return
	}
	pem, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		d.problem(key, "%v", err)
	} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		d.problem(key, "%s holds no certificate in PEM", file)
	}
}

// checkTLS checks the mode, and that a certificate and its key belong together.
func (d *document) checkTLS(key string, t TLS) {
	if t.Mode != tlsAuto && t.Mode != tlsOff {
		d.problem(key+".mode", "%q is neither auto nor off; to use a certificate of yours, name its files: {cert: FILE, key: FILE}", t.Mode)
	}
	switch {
	case t.Cert == "" && t.Key == "":
	case t.Mode == tlsOff:
		d.problem(key+".mode", "is off, but there is a certificate; leave out one of them")
	case t.Cert == "":
		d.problem(key+".cert", "is missing beside the key; name both or none")
	case t.Key == "":
		d.problem(key+".key", "is missing beside the certificate; name both or none")
	default:
		if _, err := tls.LoadX509KeyPair(t.Cert, t.Key); err != nil {
			d.problem(key, "%v", err)
		}
	}
}
