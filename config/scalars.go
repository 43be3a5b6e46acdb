package config

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/MatthiasWiesner/tasker/internal/privatefile"
	"github.com/MatthiasWiesner/tasker/internal/textfile"
)

// Secret is a string that is hidden wherever it is printed, logged or marshalled.
type Secret string

const hidden = "********"

// Reveal returns the text.
func (s Secret) Reveal() string { return string(s) }

// String hides the text.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString hides the text.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// MarshalText hides the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// URI is a URI whose password is hidden wherever it is printed, logged or
// marshalled.
type URI string

// Reveal returns the URI with its password.
func (u URI) Reveal() string { return string(u) }

// Scheme returns the scheme in lower case.
func (u URI) Scheme() string {
	scheme, _, found := strings.Cut(string(u), ":")
	if !found {
		return ""
	}
	return strings.ToLower(scheme)
}

// String hides the password.
func (u URI) String() string {
	parsed, err := url.Parse(string(u))
	if err != nil {
		return u.Scheme() + ":" + hidden
	}
	if _, ok := parsed.User.Password(); !ok {
		return string(u)
	}
	// url.URL.String would escape the stars.
	user := url.User(parsed.User.Username()).String()
	parsed.User = nil
	return strings.Replace(parsed.String(), "://", "://"+user+":"+hidden+"@", 1)
}

// GoString hides the password.
func (u URI) GoString() string { return fmt.Sprintf("%q", u.String()) }

// MarshalText hides the password.
func (u URI) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Switch is a value that is written as on or off.
type Switch bool

// UnmarshalText reads on or off, or true or false.
func (s *Switch) UnmarshalText(b []byte) error {
	switch strings.ToLower(string(b)) {
	case "on", "true":
		*s = true
	case "off", "false":
		*s = false
	default:
		return fmt.Errorf("%q is neither on nor off", b)
	}
	return nil
}

// readToken returns the token in a file, without the white space around it.
func readToken(file string) (Secret, error) {
	if file == "" {
		return "", nil
	}
	b, err := privatefile.Read(file)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	if b, err = textfile.TrimMark(b); err != nil {
		return "", fmt.Errorf("read the token from %s: %w", file, err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("read the token: %s does not contain exactly one word", file)
	}
	return Secret(token), nil
}
