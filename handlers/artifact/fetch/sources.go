package fetch

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// sourcesKey is the configuration key of the allow-list.
const sourcesKey = "handlers.artifact.sources"

// Sources is the allow-list of the places from which files may be fetched. The zero value
// allows none.
type Sources struct{ allowed []*url.URL }

// NewSources parses the URLs of an allow-list, like https://mirror.example.net/app or
// file:///var/cache/releases. A URL allows itself and everything below it. In a host, *
// stands for any characters; the host * includes every port. NewSources returns an error
// that names the first malformed URL.
func NewSources(urls []string) (Sources, error) {
	var s Sources
	for i, text := range urls {
		u, err := parseSource(text)
		if err != nil {
			return Sources{}, fmt.Errorf("%s[%d]: %w", sourcesKey, i, err)
		}
		s.allowed = append(s.allowed, u)
	}
	return s, nil
}

func parseSource(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" || hasDotSegment(u.Path) {
		return nil, errors.New("it is not a plain URL, like https://mirror.example.net/app, without user, query and '..'")
	}
	switch u.Scheme {
	case "http", "https":
		if _, err := path.Match(u.Host, ""); err != nil || u.Host == "" {
			return nil, fmt.Errorf("%q has no valid host", text)
		}
	case "file":
		if u.Host != "" || !path.IsAbs(u.Path) || path.Clean(u.Path) != u.Path {
			return nil, fmt.Errorf("%q is not like file:///var/cache/releases, with the plain absolute path of a directory", text)
		}
	default:
		return nil, fmt.Errorf("%q begins with none of https://, http:// and file:///", text)
	}
	return u, nil
}

// Check returns nil for a URL that the list allows, and a *handlers.RejectError for every
// other URL.
func (s Sources) Check(u *url.URL) error {
	if s.find(u) != nil {
		return nil
	}
	remedy := url.URL{Scheme: u.Scheme, Host: u.Host}
	if u.Scheme == "file" {
		remedy.Path = path.Dir(u.Path)
	}
	return handlers.Reject("the agent may not fetch %s: add %q to %s in the agent's configuration", Redact(u), remedy.String(), sourcesKey)
}

// Names reports whether the list names the host of a URL without a wildcard. Only such a
// host may receive a token.
func (s Sources) Names(u *url.URL) bool {
	return slices.ContainsFunc(s.allowed, func(a *url.URL) bool { return !strings.Contains(a.Host, "*") && isBelow(u, a) })
}

// find returns the first entry that allows a URL, or nil.
func (s Sources) find(u *url.URL) *url.URL {
	if i := slices.IndexFunc(s.allowed, func(a *url.URL) bool { return isBelow(u, a) }); i >= 0 {
		return s.allowed[i]
	}
	return nil
}

// isBelow reports whether a URL is an allowed one or below it.
func isBelow(u, allowed *url.URL) bool {
	if u.Scheme != allowed.Scheme || !matchesHost(u, allowed) {
		return false
	}
	prefix := strings.TrimSuffix(allowed.Path, "/")
	if prefix == "" {
		return true
	}
	// A server could resolve dots, or a slash that is written as %2F, and leave the path.
	if hasDotSegment(u.Path) || strings.Contains(strings.ToLower(u.EscapedPath()), "%2f") {
		return false
	}
	return u.Path == prefix || strings.HasPrefix(u.Path, prefix+"/")
}

func matchesHost(u, allowed *url.URL) bool {
	if allowed.Host == "*" {
		return true
	}
	ok, err := path.Match(strings.ToLower(allowed.Hostname()), strings.ToLower(u.Hostname()))
	return ok && err == nil && portOf(u) == portOf(allowed)
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

func hasDotSegment(p string) bool {
	segments := strings.FieldsFunc(p, func(r rune) bool { return r == '/' || r == '\\' })
	return slices.Contains(segments, ".") || slices.Contains(segments, "..")
}

// open opens a file of this server. It follows no link out of the allowed directory.
func (s Sources) open(u *url.URL, flags int) (*os.File, error) {
	allowed := s.find(u)
	if allowed == nil {
		return nil, s.Check(u)
	}
	if allowed.Path == "/" {
		return os.OpenFile(u.Path, flags, 0)
	}
	dir := allowed.Path
	if u.Path == dir { // The entry names the file itself.
		dir = path.Dir(dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	name, err := filepath.Rel(dir, u.Path)
	if err != nil {
		return nil, err
	}
	file, err := root.OpenFile(name, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("in %s: %w", dir, err)
	}
	return file, nil
}

// size returns the size of a file of this server.
func (s Sources) size(u *url.URL) (int64, error) {
	file, err := s.open(u, os.O_RDONLY|syscall.O_NONBLOCK)
	if err != nil {
		return -1, err
	}
	defer func() { _ = file.Close() }()
	fi, err := file.Stat()
	if err != nil {
		return -1, err
	}
	if !fi.Mode().IsRegular() {
		return -1, fmt.Errorf("%s is not a regular file", u.Path)
	}
	return fi.Size(), nil
}
