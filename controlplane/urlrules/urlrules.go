// Package urlrules says which URLs the control plane calls for those who may create
// tasks, so that it is no way into places that only it can reach.
package urlrules

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// maxURL bounds a URL, in bytes.
const maxURL = 2048

// Rules say which URLs may be called. They are asked when a task is stored and again at
// each call. Without URLs that are allowed every https URL is, and http to this machine.
type Rules struct {
	// Setting is the key of the configuration that allows URLs, to be named to people.
	Setting string
	allowed []*url.URL
}

// New makes the Rules of a setting that allow what is below one of the URLs: the same
// scheme, host and port, and the same path or one below it.
func New(setting string, allowed []string) (Rules, error) {
	r := Rules{Setting: setting}
	for _, text := range allowed {
		u, err := parse(text)
		if err != nil {
			return r, fmt.Errorf("%s: %q %w", setting, text, err)
		}
		r.allowed = append(r.allowed, u)
	}
	return r, nil
}

// Check says for a person, as the end of a sentence, why a URL may not be called.
func (r Rules) Check(text string) error {
	u, err := parse(text)
	switch {
	case err != nil:
		return err
	case len(r.allowed) == 0 && u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("must begin with https://; http:// is for this machine only, or for what %s in the configuration of the control plane names", r.Setting)
	case len(r.allowed) > 0 && !slices.ContainsFunc(r.allowed, func(a *url.URL) bool { return below(u, a) }):
		return fmt.Errorf("is not among those that %s in the configuration of the control plane names", r.Setting)
	}
	return nil
}

// parse reads a URL that is whole and means what it seems to mean.
func parse(text string) (*url.URL, error) {
	if len(text) > maxURL {
		return nil, fmt.Errorf("has %d bytes; at most %d are allowed", len(text), maxURL)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New("is no http:// or https:// URL")
	case u.User != nil:
		return nil, errors.New("has a user in it, which would be shown to everybody who sees the task")
	case strings.Contains(text, "#"):
		return nil, errors.New("has a part after #; remove it")
	case slices.ContainsFunc(strings.FieldsFunc(u.Path, func(r rune) bool { return r == '/' || r == '\\' }), func(s string) bool { return s == "." || s == ".." }):
		return nil, errors.New("has . or .. in its path")
	}
	return u, nil
}

func below(u, a *url.URL) bool {
	path, dir := u.EscapedPath(), strings.TrimSuffix(a.EscapedPath(), "/")
	return u.Scheme == a.Scheme && strings.EqualFold(u.Hostname(), a.Hostname()) && port(u) == port(a) &&
		(path == dir || strings.HasPrefix(path, dir+"/"))
}

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}
