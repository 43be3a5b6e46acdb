package main

import (
	"crypto/tls"
	"errors"
	"io/fs"
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
	tokenFile  string
	// trust knows the certificate that it has made itself; nil if there is none.
	trust *tls.Config
	// closed is a data directory that this user may not read.
	closed string
}

// dataDirs are where a control plane on this machine keeps its data: one in
// development mode, started in this directory, and an installed one.
func dataDirs() []string { return []string{".tasker/controlplane", "/var/lib/tasker"} }

// findLocal looks for the first directory whose token may be read. One that may
// not is as good as none, and is remembered: what the control plane says then, if
// anything, is not the reason.
func findLocal(dirs []string) local {
	closed := ""
	for _, dir := range dirs {
		token, err := line(dir, "admin.token")
		if closed == "" && errors.Is(err, fs.ErrPermission) {
			closed = dir
		}
		if token == "" {
			continue
		}
		l := local{token: token, tokenFile: filepath.Join(dir, "admin.token")}
		l.url, _ = line(dir, "api.url") // without it, the default
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
	return local{url: defaultURL, closed: closed}
}

// line reads a file of one line; one that cannot be read is empty.
func line(dir, name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // the directories above
	return strings.TrimSpace(string(b)), err
}

func isLocal(address string) bool {
	u, err := url.Parse(address)
	return err == nil && config.IsLoopback(u.Hostname())
}
