package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/internal/selfcert"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// A renewed certificate and renewed tokens are used after SIGHUP, also the log level. An
// agent that verifies the certificate with a file of authorities reconnects when that file
// is replaced, too.
func TestHangupReloads(t *testing.T) {
	t.Parallel()
	f := &fleet{t: t, dir: t.TempDir()}
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	tlsDir := filepath.Join(f.dir, "tls")
	first := newCertificate(t, tlsDir)
	config := func(level string) string {
		return types + fmt.Sprintf("data_dir: %q\napi: {address: 127.0.0.1, port: %s, heartbeat: 200ms, agent_token: on, tls: {cert: %q, key: %q}}\nlog: {level: %s, format: text}\n",
			filepath.Join(f.dir, "cp"), port, filepath.Join(tlsDir, selfcert.CertFile), filepath.Join(tlsDir, selfcert.KeyFile), level)
	}
	file := f.write("controlplane.yaml", config("info"))
	plane := startProgram(t, "tasker-controlplane", "run", "--config", file)
	f.waitServes(address, first)
	adminFile := filepath.Join(f.dir, "cp", "admin.token")

	ca := f.write("ca.pem", readFile(t, filepath.Join(tlsDir, selfcert.CertFile)))
	agent := startProgram(t, "tasker-agent", "run", "--config", f.write("agent.yaml", fmt.Sprintf(
		"endpoint: web-1\nserver: {uri: \"https://%s\", token_file: %q, ca_file: %q}\ndata_dir: %q\nmetrics: {port: 0}\nlog: {format: text}\n",
		address, filepath.Join(f.dir, "cp", "agent.token"), ca, filepath.Join(f.dir, "agent"))))
	waitLog(t, agent, "connected to the control plane", 1)

	// A broken certificate: the old one stays.
	f.write("tls/"+selfcert.CertFile, "broken")
	plane.signal(t, syscall.SIGHUP)
	waitLog(t, plane, "the old one stays", 1)
	f.waitServes(address, first)

	second := newCertificate(t, tlsDir)
	if err := os.Remove(adminFile); err != nil {
		t.Fatal(err)
	}
	f.write("controlplane.yaml", config("debug"))
	plane.signal(t, syscall.SIGHUP)
	waitLog(t, plane, "new connections get the new certificate", 1)
	f.waitServes(address, second)
	waitLog(t, plane, "level=DEBUG", 1)
	c, err := client.New(client.Options{URL: "https://" + address, Token: strings.TrimSpace(readFile(t, adminFile)), TLS: selfcert.Trust(second)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wait.For(t, "the new admin token", func() bool {
		_, err := c.Endpoints(t.Context())
		return err == nil
	})

	// The agent's connection ends with the control plane; its next one is to the new certificate.
	plane.stop(t)
	f.write("ca.pem", readFile(t, filepath.Join(tlsDir, selfcert.CertFile)))
	agent.signal(t, syscall.SIGHUP)
	waitLog(t, agent, "reloaded", 1)
	startProgram(t, "tasker-controlplane", "run", "--config", file)
	waitLog(t, agent, "connected to the control plane", 2)
}

// SIGHUP does not end a program that waits: for its database, or for its control plane.
func TestHangupDoesNotEndWaitingProgram(t *testing.T) {
	t.Parallel()
	unused := freeAddress(t)
	_, port, _ := net.SplitHostPort(freeAddress(t))
	f := &fleet{t: t, dir: t.TempDir()}
	for _, test := range []struct{ program, config, waiting string }{
		{
			"tasker-controlplane",
			types + fmt.Sprintf("data_dir: %q\napi: {address: 127.0.0.1, port: %s}\ndatabase: {uri: \"mysql://tasker@%s/tasker\"}\n", t.TempDir(), port, unused),
			"database is unavailable",
		},
		{"tasker-agent", fmt.Sprintf("endpoint: web-1\nserver: {uri: \"http://%s\"}\ndata_dir: %q\nmetrics: {port: 0}\n", unused, t.TempDir()), "not connected"},
	} {
		p := startProgram(t, test.program, "run", "--config", f.write(test.program+".yaml", test.config))
		waitLog(t, p, test.waiting, 1)
		for n := 1; n <= 2; n++ {
			p.signal(t, syscall.SIGHUP)
			waitLog(t, p, "reloaded", n)
		}
		p.stop(t)
	}
}

// newCertificate replaces the certificate in a directory, and returns its fingerprint.
func newCertificate(t *testing.T, dir string) (fingerprint string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	cert, err := selfcert.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return selfcert.Fingerprint(cert)
}

// waitServes waits until new connections get the certificate with the fingerprint.
func (f *fleet) waitServes(address, fingerprint string) {
	f.t.Helper()
	wait.For(f.t, "the certificate "+fingerprint, func() bool {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: selfcert.Trust(fingerprint), DisableKeepAlives: true}}
		resp, err := c.Get("https://" + address + "/healthz") //nolint:noctx // on loopback
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	})
}

// waitLog waits until the log of a program contains a text n times.
func waitLog(t *testing.T, p *process, text string, n int) {
	t.Helper()
	wait.For(t, fmt.Sprintf("the text %q, %d times", text, n), func() bool { return strings.Count(p.log.String(), text) >= n })
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
