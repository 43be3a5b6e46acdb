package artifact

import (
	"cmp"
	_ "embed"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/artifact/archive"
)

// Payload is the payload of a task.
type Payload struct {
	URL       string `json:"url"`
	SHA256    string `json:"sha256"`
	Version   string `json:"version"`
	Directory string `json:"directory"`
	Format    string `json:"format,omitempty"`
	Name      string `json:"name,omitempty"`
	Mode      string `json:"mode,omitempty"`
	TokenFile string `json:"token_file,omitempty"`

	MaxSize         int64 `json:"max_size,omitempty"`
	MaxUnpackedSize int64 `json:"max_unpacked_size,omitempty"`
	MaxEntries      int   `json:"max_entries,omitempty"`

	Hooks  Hooks   `json:"hooks,omitzero"`
	Unit   string  `json:"unit,omitempty"`
	Health *Health `json:"health,omitempty"`
	Keep   int     `json:"keep,omitempty"`
}

// Hooks are the argument vectors of the hooks; each program is a path inside the release.
type Hooks struct {
	Before []string `json:"before,omitempty"`
	After  []string `json:"after,omitempty"`
}

// Health describes how a release is checked: by one of HTTP, TCP and Command.
type Health struct {
	HTTP     string           `json:"http,omitempty"`
	TCP      string           `json:"tcp,omitempty"`
	Command  []string         `json:"command,omitempty"`
	Retries  *int             `json:"retries,omitempty"`
	Interval *tasker.Duration `json:"interval,omitempty"`
	Timeout  *tasker.Duration `json:"timeout,omitempty"`
}

// plain is the format of a single file that is not an archive.
const plain archive.Format = "plain"

// The defaults of optional fields.
const (
	defaultMaxSize         = 1 << 30
	defaultMaxUnpackedSize = 4 << 30
	defaultMaxEntries      = 100_000
	defaultKeep            = 5
	defaultMode            = "0755"
	defaultRetries         = 10
	defaultInterval        = 2 * time.Second
	defaultTimeout         = 5 * time.Second
)

// payloadSchema checks everything that can be checked without knowledge of the server.
//
//go:embed payload.schema.json
var payloadSchema []byte

// spec is a payload that has been checked, with its defaults filled in.
type spec struct {
	Payload
	source *url.URL
	format archive.Format
	mode   fs.FileMode
}

// newSpec checks what the schema cannot check, and fills in the defaults.
func newSpec(p Payload) (spec, error) {
	s := spec{Payload: p}
	s.SHA256 = strings.ToLower(p.SHA256)
	s.MaxSize = cmp.Or(p.MaxSize, defaultMaxSize)
	s.MaxUnpackedSize = cmp.Or(p.MaxUnpackedSize, defaultMaxUnpackedSize)
	s.MaxEntries = cmp.Or(p.MaxEntries, defaultMaxEntries)
	s.Keep = cmp.Or(p.Keep, defaultKeep)
	var err error
	if s.source, err = parseSource(p); err != nil {
		return s, err
	}
	if s.format, err = parseFormat(p, s.source.Path); err != nil {
		return s, err
	}
	mode, err := strconv.ParseUint(cmp.Or(p.Mode, defaultMode), 8, 32)
	if err != nil {
		return s, handlers.Reject("payload.mode: %q is not a mode, like 0755", p.Mode)
	}
	s.mode = fs.FileMode(mode)
	var command []string
	if h := p.Health; h != nil {
		command = h.Command
		if u, err := url.Parse(h.HTTP); err != nil || u.User != nil {
			return s, handlers.Reject("payload.health.http is not a URL without user and password")
		}
	}
	for _, argv := range [][]string{p.Hooks.Before, p.Hooks.After, command} {
		if len(argv) > 0 && !filepath.IsLocal(argv[0]) {
			return s, handlers.Reject("%q is not a path inside the release", argv[0])
		}
	}
	return s, nil
}

// parseSource parses the URL of the release. It rejects a URL that would expose a secret.
func parseSource(p Payload) (*url.URL, error) {
	u, err := url.Parse(p.URL)
	switch {
	case err != nil: // The error would repeat the URL, which may contain a secret.
		return nil, handlers.Reject("payload.url is not a URL")
	case u.User != nil:
		return nil, handlers.Reject("payload.url has a user or a password in it, which would be stored with the task; put them into a file on the server and name that as token_file")
	case u.Scheme == "file" && (u.RawQuery != "" || filepath.Clean(u.Path) != u.Path):
		return nil, handlers.Reject("payload.url: %s is not the plain path of a file", u.Path)
	case p.TokenFile != "" && u.Scheme != "https" && !isLoopback(u.Hostname()):
		return nil, handlers.Reject("payload.token_file: over %s the token could be read on its way; name an https URL", u.Scheme)
	}
	return u, nil
}

// parseFormat returns the format of the file, which the path's suffix implies if the
// payload does not name it.
func parseFormat(p Payload, path string) (archive.Format, error) {
	format := archive.Format(p.Format)
	for suffix, implied := range map[string]archive.Format{".tar.gz": archive.TarGz, ".tgz": archive.TarGz, ".zip": archive.Zip} {
		if format == "" && strings.HasSuffix(strings.ToLower(path), suffix) {
			format = implied
		}
	}
	switch {
	case format == "":
		return "", handlers.Reject("payload.format is missing, and the url ends in none of .tar.gz, .tgz and .zip; it is tar.gz, zip or plain")
	case format == plain && p.Name == "":
		return "", handlers.Reject("payload.name is missing: with format plain it is the file's path inside the release")
	case format != plain && (p.Name != "" || p.Mode != ""):
		return "", handlers.Reject("payload.name and payload.mode can be used with format plain only, and this is %s", format)
	}
	return format, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// readToken reads the credentials from the token file on the server; they are not part of
// the task.
func (s spec) readToken() (string, error) {
	if s.TokenFile == "" {
		return "", nil
	}
	f, err := os.OpenFile(s.TokenFile, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("token_file: %w; put the token there, on one line", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, 8<<10))
	if err != nil {
		return "", fmt.Errorf("token_file: %w", err)
	}
	line := strings.TrimSpace(string(content))
	words := strings.Fields(line)
	if len(words) == 0 || len(words) > 2 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", fmt.Errorf("token_file: %s must contain one line: a token, or a scheme and credentials", s.TokenFile)
	}
	if len(words) == 1 {
		words = slices.Insert(words, 0, "Bearer")
	}
	return strings.Join(words, " "), nil
}
