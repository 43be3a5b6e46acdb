// Package urlrules decides which URLs of tasks the control plane may call, so that a task
// cannot reach places that only the control plane can.
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

// Rules permit URLs. They are checked when a task is stored and again at each call.
// Without a list of URLs they permit every https URL, and http to this machine.
type Rules struct {
	// Setting is the configuration key of the list, for error messages.
	Setting string
	allowed []*url.URL
}

// New makes the Rules of a setting. They permit what is below one of the URLs: the same
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

// Check returns an error if a URL is not permitted. The error completes a sentence that
// begins with the URL's name.
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

// parse reads an absolute URL without ambiguous parts.
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
