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
	"github.com/MatthiasWiesner/tasker/internal/privatefile"
	"github.com/MatthiasWiesner/tasker/internal/selfcert"
)

// local describes a control plane on this machine, as read from its data directory.
type local struct {
	url, token string
	tokenFile  string
	// trust accepts its self-signed certificate; nil if it has none.
	trust *tls.Config
	// exposed is why the token is not used: other users can read it.
	exposed error
	// unreadable is a data directory that this user may not read; empty if there is none.
	unreadable string
}

// dataDirs returns the possible data directories of a control plane on this machine: of
// one started in the working directory for development, and of an installed one.
func dataDirs() []string { return []string{".tasker/controlplane", "/var/lib/tasker"} }

// findLocal returns the control plane of the first directory whose token is readable. It
// remembers the first unreadable directory, which explains a missing token better than the
// response of the control plane.
func findLocal(dirs []string) local {
	unreadable := ""
	for _, dir := range dirs {
		token, err := readLine(dir, "admin.token")
		if unreadable == "" && errors.Is(err, fs.ErrPermission) {
			unreadable = dir
		}
		if token == "" {
			continue
		}
		l := local{token: token, tokenFile: filepath.Join(dir, "admin.token")}
		if err := privatefile.Check(l.tokenFile); err != nil {
			l.token, l.exposed = "", err
		}
		l.url, _ = readLine(dir, "api.url") // without it, the default
		// Another user may have written a relative directory: its URL must be local.
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
	return local{url: defaultURL, unreadable: unreadable}
}

// readLine reads a file of one line; the line is empty if that fails.
func readLine(dir, name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // the directories above
	return strings.TrimSpace(string(b)), err
}

// isLocal reports whether a URL is on this machine.
func isLocal(address string) bool {
	u, err := url.Parse(address)
	return err == nil && config.IsLoopback(u.Hostname())
}
