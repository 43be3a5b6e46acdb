package main

import (
	"crypto/tls"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/internal/selfcert"
)

// local is a control plane on this machine, as it describes itself in its data
// directory.
type local struct {
	url, token string
	// trust knows the certificate that it has made itself; nil if there is none.
	trust *tls.Config
}

// dataDirs are where a control plane on this machine keeps its data: one in
// development mode, started in this directory, and an installed one.
func dataDirs() []string { return []string{".tasker/controlplane", "/var/lib/tasker"} }

// findLocal looks for the first directory whose token may be read. One that may
// not is as good as none: the control plane says that a token is needed.
func findLocal(dirs []string) local {
	for _, dir := range dirs {
		token := line(dir, "admin.token")
		if token == "" {
			continue
		}
		l := local{url: line(dir, "api.url"), token: token}
		// Below the working directory may lie what somebody else has put there.
		if l.url == "" || !filepath.IsAbs(dir) && !isLocal(l.url) {
			l.url = defaultURL
		}
		if pem, err := os.ReadFile(filepath.Join(dir, selfcert.CertFile)); err == nil { //nolint:gosec // the directories above
			if known, err := selfcert.FingerprintPEM(pem); err == nil {
				l.trust = selfcert.Trust(known)
			}
		}
		return l
	}
	return local{url: defaultURL}
}

// line reads a file of one line; one that cannot be read is empty.
func line(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // the directories above
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func isLocal(address string) bool {
	u, err := url.Parse(address)
	return err == nil && config.IsLoopback(u.Hostname())
}
