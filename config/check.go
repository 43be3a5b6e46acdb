package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
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
	"github.com/MatthiasWiesner/tasker/internal/privatefile"
)

// validator checks the values of one file. Its methods add problems to the report.
type validator struct{ *report }

// hostName matches valid host names, whether the host exists or not.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?$`)

// IsLoopback reports whether an address can be reached from this machine only.
func IsLoopback(address string) bool {
	ip, err := netip.ParseAddr(address)
	return address == "localhost" || err == nil && ip.IsLoopback()
}

func (v *validator) checkAddress(key, address string) {
	if address == "" {
		v.add(key, "is empty; use 127.0.0.1 to accept connections from this machine only, or 0.0.0.0 from all machines")
		return
	}
	if _, err := netip.ParseAddr(address); err != nil && address != "localhost" {
		v.add(key, "%q is not an IP address; use 127.0.0.1 to accept connections from this machine only, or 0.0.0.0 from all machines", address)
	}
}

func (v *validator) checkPort(key string, port, minimum int) {
	if port < minimum || port > 65535 {
		v.add(key, "%d is not a port; use a number from %d to 65535", port, minimum)
	}
}

func (v *validator) checkDuration(key string, value tasker.Duration, minimum time.Duration) {
	if value.D() < minimum {
		v.add(key, "%s is too short; it must be at least %s", value, minimum)
	}
}

func (v *validator) checkDataDir(dir string) {
	if dir == "" {
		v.add("data_dir", "is empty; name a directory, or remove the key")
		return
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		v.add("data_dir", "%s is not a directory", dir)
	}
}

func (v *validator) checkLog(l Log) {
	v.checkWord("log.level", l.Level, "debug", "info", "warn", "error")
	v.checkWord("log.format", l.Format, "auto", "text", "json")
}

func (v *validator) checkWord(key, word string, allowed ...string) {
	if !slices.Contains(allowed, word) {
		v.add(key, "%q is not one of %s", word, strings.Join(allowed, ", "))
	}
}

// checkURI parses a URI with a host. It does not report the error of url.Parse, which can
// quote the password.
func (v *validator) checkURI(key string, uri URI, form string) (*url.URL, bool) {
	u, err := url.Parse(uri.Reveal())
	switch {
	case err != nil:
		v.add(key, "is not a valid URI; write it like %s, with special characters in user and password percent-encoded", form)
		return nil, false
	case u.Hostname() == "" || !isValidHost(u.Hostname()):
		v.add(key, "%s names no valid host; write it like %s", uri, form)
		return nil, false
	case u.Port() != "" && !isValidPort(u.Port()):
		v.add(key, "%s: port %s is not from 1 to 65535", uri, u.Port())
		return nil, false
	case u.Fragment != "":
		v.add(key, "%s has a part after #; percent-encode # as %%23", uri)
		return nil, false
	}
	return u, true
}

func isValidHost(host string) bool {
	return net.ParseIP(host) != nil || hostName.MatchString(host)
}

func isValidPort(port string) bool {
	n, err := strconv.Atoi(port)
	return err == nil && n >= 1 && n <= 65535
}

// checkHTTP checks the URL of a server.
func (v *validator) checkHTTP(key string, uri URI) {
	const form = "http://HOST:PORT or https://HOST:PORT"
	if s := uri.Scheme(); s != "http" && s != "https" {
		v.add(key, "%q is not a URL; write it like %s", uri, form)
		return
	}
	u, ok := v.checkURI(key, uri, form)
	if ok && u.User != nil {
		v.add(key, "has a user in it; callers identify themselves by a token, see token_file")
	} else if ok && u.RawQuery != "" {
		v.add(key, "%s has a part after ?; remove it", uri)
	}
}

const amqpForm = "amqp://USER:PASSWORD@HOST:5672/VHOST"

// checkAMQP checks the URI of a broker.
func (v *validator) checkAMQP(key string, uri URI) {
	u, ok := v.checkURI(key, uri, amqpForm)
	if !ok {
		return
	}
	password, _ := u.User.Password()
	vhost := strings.TrimPrefix(u.EscapedPath(), "/")
	switch {
	case u.User.Username() == "" || password == "":
		v.add(key, "%s has no user and password; write it like %s", uri, amqpForm)
	case vhost == "":
		v.add(key, "%s has no vhost; write it like %s (the vhost / is written %%2F)", uri, amqpForm)
	case strings.Contains(vhost, "/"):
		v.add(key, "%s has more than one / after the host; write a / in the vhost as %%2F", uri)
	}
}

// checkToken checks that a token can be read.
func (v *validator) checkToken(key, file string) {
	switch _, err := readToken(file); {
	case err == nil:
	case errors.Is(err, privatefile.ErrExposed):
		v.add(key, "%v", err)
	default:
		v.add(key, "%v; the control plane writes tokens into its data_dir at its first start", err)
	}
}

// checkNotExposed checks that other users cannot read a file, if it exists.
func (v *validator) checkNotExposed(key, file string) {
	if err := privatefile.Check(file); errors.Is(err, privatefile.ErrExposed) {
		v.add(key, "%v", err)
	}
}

// checkPrivate checks that other users cannot read a configuration file with secrets. A
// file that is shipped in the program has none.
func (v *validator) checkPrivate(secrets []string) {
	if len(secrets) == 0 {
		return
	}
	if err := privatefile.Check(v.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.addAt(nil, secrets[0], "%v", err)
	}
}

// checkCertificates checks that a file contains certificates.
func (v *validator) checkCertificates(key, file string) {
	if file == "" {
		return
	}
	pem, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		v.add(key, "%v", err)
	} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		v.add(key, "%s contains no PEM certificate", file)
	}
}

// checkTLS checks the mode, and that a certificate and its key belong together.
func (v *validator) checkTLS(key string, t TLS) {
	if t.Mode != tlsAuto && t.Mode != tlsOff {
		v.add(key+".mode", "%q is neither auto nor off; to use your own certificate, name its files: {cert: FILE, key: FILE}", t.Mode)
	}
	switch {
	case t.Cert == "" && t.Key == "":
	case t.Mode == tlsOff:
		v.add(key+".mode", "is off, but there is a certificate; remove one of them")
	case t.Cert == "":
		v.add(key+".cert", "is missing, but there is a key; name both or none")
	case t.Key == "":
		v.add(key+".key", "is missing, but there is a certificate; name both or none")
	default:
		if err := privatefile.Check(t.Key); errors.Is(err, privatefile.ErrExposed) {
			v.add(key+".key", "%v", err)
		} else if _, err := tls.LoadX509KeyPair(t.Cert, t.Key); err != nil {
			v.add(key, "%v", err)
		}
	}
}

func (v *validator) checkClient(c *Client) {
	if c.URL != "" {
		v.checkHTTP("url", c.URL)
	}
	if c.Token != "" && c.TokenFile != "" {
		v.add("token_file", "there is a token already; remove one of the two")
	}
	v.checkToken("token_file", c.TokenFile)
	v.checkCertificates("ca_file", c.CAFile)
}
