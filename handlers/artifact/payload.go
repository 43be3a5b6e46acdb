package artifact

import (
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

// Payload is what a task asks for.
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

// Hooks are argument vectors; the program is a path inside the release.
type Hooks struct {
	Before []string `json:"before,omitempty"`
	After  []string `json:"after,omitempty"`
}

// Health is how it is seen that a release works: one of HTTP, TCP and Command.
type Health struct {
	HTTP     string           `json:"http,omitempty"`
	TCP      string           `json:"tcp,omitempty"`
	Command  []string         `json:"command,omitempty"`
	Retries  *int             `json:"retries,omitempty"`
	Interval *tasker.Duration `json:"interval,omitempty"`
	Timeout  *tasker.Duration `json:"timeout,omitempty"`
}

// The format that is no archive.
const plain archive.Format = "plain"

// Defaults of what a payload leaves out.
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

// schema has the bounds that need no knowledge of the server.
const schema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "url": {
      "description": "where the release is: http, https or file; without user and password, see token_file",
      "type": "string", "pattern": "^(https?://[^/]|file:///)", "maxLength": 4096
    },
    "sha256": {"description": "the SHA-256 of the file at url, in hex", "type": "string", "pattern": "^[0-9A-Fa-f]{64}$"},
    "version": {
      "description": "the name of the release, and of its directory below releases; what it names never changes",
      "type": "string", "pattern": "^[0-9A-Za-z][0-9A-Za-z._+~-]{0,99}$"
    },
    "directory": {
      "description": "where is deployed to, an absolute path that the agent's handlers.artifact.allow names: it has releases/<version>, and the link current",
      "type": "string", "pattern": "^/", "maxLength": 1024
    },
    "format": {"description": "what the file is; left out, the url's suffix says it", "enum": ["tar.gz", "zip", "plain"]},
    "name": {
      "description": "with plain, and mandatory then: the file's path inside the release",
      "type": "string", "pattern": "^[0-9A-Za-z_][0-9A-Za-z._+~-]*(/[0-9A-Za-z_][0-9A-Za-z._+~-]*)*$", "maxLength": 255
    },
    "mode": {"description": "with plain: the file's mode; 0755 if left out", "type": "string", "pattern": "^0?[0-7]{3}$"},
    "token_file": {
      "description": "a file on the server, by its absolute path, whose one line is sent as a bearer token, or as it is if it has two words, as in \"Basic dXNlcjpwYXNz\"; with https only, or to this server itself",
      "type": "string", "pattern": "^/", "maxLength": 1024
    },
    "max_size": {"description": "how many bytes the file may have; 1 GiB if left out", "type": "integer", "minimum": 1, "maximum": 1099511627776},
    "max_unpacked_size": {"description": "how many bytes it may have unpacked; 4 GiB if left out", "type": "integer", "minimum": 1, "maximum": 1099511627776},
    "max_entries": {"description": "how many files, directories and links; 100000 if left out", "type": "integer", "minimum": 1, "maximum": 10000000},
    "hooks": {
      "description": "programs of the release, without a shell, run in its directory with VERSION and RELEASE (that directory) in the environment",
      "type": "object",
      "properties": {
        "before": {"description": "before the switch; if it fails nothing is switched", "$ref": "#/$defs/argv"},
        "after": {"description": "after each switch, one back included, when the unit is restarted", "$ref": "#/$defs/argv"}
      },
      "additionalProperties": false
    },
    "unit": {
      "description": "what systemd restarts after the switch, with its suffix, like app.service; the agent's handlers.service.allow must name it",
      "type": "string", "pattern": "^[0-9A-Za-z][0-9A-Za-z:_.@\\\\-]*\\.[a-z]+$", "maxLength": 255
    },
    "health": {
      "description": "how it is seen that the release works: one of http, tcp and command",
      "type": "object",
      "properties": {
        "http": {"description": "a URL that must answer 2xx", "type": "string", "pattern": "^https?://[^/]", "maxLength": 4096},
        "tcp": {"description": "an address, HOST:PORT, that must take connections", "type": "string", "pattern": "^.+:[0-9]+$", "maxLength": 300},
        "command": {"description": "a program of the release that must end with exit code 0", "$ref": "#/$defs/argv"},
        "retries": {"description": "how often it is tried again; 10 if left out", "type": "integer", "minimum": 0, "maximum": 1000},
        "interval": {"description": "the time between two tries; 2s if left out", "type": ["string", "number"]},
        "timeout": {"description": "how long one try may take; 5s if left out", "type": ["string", "number"]}
      },
      "oneOf": [{"required": ["http"]}, {"required": ["tcp"]}, {"required": ["command"]}],
      "additionalProperties": false
    },
    "keep": {"description": "how many releases stay, the current one and the one before always among them; 5 if left out", "type": "integer", "minimum": 1, "maximum": 1000}
  },
  "required": ["url", "sha256", "version", "directory"],
  "additionalProperties": false,
  "$defs": {
    "argv": {
      "description": "a program, by its path inside the release, and its arguments",
      "type": "array", "minItems": 1, "maxItems": 1000, "items": {"type": "string", "pattern": "^[^\\x00]*$"},
      "prefixItems": [{"type": "string", "pattern": "^[^/\\x00]"}]
    }
  }
}`

// order is a payload with all that it leaves out.
type order struct {
	Payload
	from   *url.URL
	format archive.Format
	mode   fs.FileMode
}

// complete checks what the schema cannot, and fills in what was left out.
func complete(p Payload) (order, error) {
	o := order{Payload: p}
	o.SHA256 = strings.ToLower(p.SHA256)
	o.MaxSize = orElse(p.MaxSize, defaultMaxSize)
	o.MaxUnpackedSize = orElse(p.MaxUnpackedSize, defaultMaxUnpackedSize)
	o.MaxEntries = orElse(p.MaxEntries, defaultMaxEntries)
	o.Keep = orElse(p.Keep, defaultKeep)
	u, err := url.Parse(p.URL)
	switch {
	case err != nil: // it would repeat the URL, and what is secret in it
		return o, handlers.Reject("payload.url is no URL")
	case u.User != nil:
		return o, handlers.Reject("payload.url has a user or a password in it, which would be stored with the task; put them into a file on the server and name that as token_file")
	case u.Scheme == "file" && (u.RawQuery != "" || filepath.Clean(u.Path) != u.Path):
		return o, handlers.Reject("payload.url: %s is not the plain path of a file", u.Path)
	case p.TokenFile != "" && u.Scheme != "https" && !loopback(u.Hostname()):
		return o, handlers.Reject("payload.token_file: over %s anybody on the way could read the token; name an https URL", u.Scheme)
	}
	o.from = u
	if h := p.Health; h != nil {
		if u, err := url.Parse(h.HTTP); err != nil || u.User != nil {
			return o, handlers.Reject("payload.health.http is no URL without user and password")
		}
	}
	if o.format, err = formatOf(p.Format, u.Path); err != nil {
		return o, err
	}
	switch {
	case o.format == plain && p.Name == "":
		return o, handlers.Reject("payload.name is missing: with format plain it is the file's path inside the release")
	case o.format != plain && (p.Name != "" || p.Mode != ""):
		return o, handlers.Reject("payload.name and payload.mode are of use with format plain only, and this is %s", o.format)
	}
	mode, err := strconv.ParseUint(orElse(p.Mode, defaultMode), 8, 32)
	if err != nil {
		return o, handlers.Reject("payload.mode: %q is no mode, like 0755", p.Mode)
	}
	o.mode = fs.FileMode(mode)
	for _, argv := range [][]string{p.Hooks.Before, p.Hooks.After, p.Health.command()} {
		if len(argv) > 0 && !filepath.IsLocal(argv[0]) {
			return o, handlers.Reject("%q is no path inside the release", argv[0])
		}
	}
	return o, nil
}

func formatOf(format, path string) (archive.Format, error) {
	if format != "" {
		return archive.Format(format), nil
	}
	for suffix, f := range map[string]archive.Format{".tar.gz": archive.TarGz, ".tgz": archive.TarGz, ".zip": archive.Zip} {
		if strings.HasSuffix(strings.ToLower(path), suffix) {
			return f, nil
		}
	}
	return "", handlers.Reject("payload.format is missing, and the url ends in none of .tar.gz, .tgz and .zip; it is tar.gz, zip or plain")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// authorization reads the credentials, which are of the server and in no task.
func (o order) authorization() (string, error) {
	if o.TokenFile == "" {
		return "", nil
	}
	f, err := os.OpenFile(o.TokenFile, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("token_file: %w; put the token there, on one line", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, 8<<10))
	if err != nil {
		return "", fmt.Errorf("token_file: %w", err)
	}
	words := strings.Fields(string(content))
	line := strings.TrimSpace(string(content))
	if len(words) == 0 || len(words) > 2 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", fmt.Errorf("token_file: %s is not one line with a token, or with a scheme and credentials", o.TokenFile)
	}
	if len(words) == 1 {
		words = slices.Insert(words, 0, "Bearer")
	}
	return strings.Join(words, " "), nil
}
