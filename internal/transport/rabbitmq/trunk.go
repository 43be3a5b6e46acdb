package rabbitmq

import (
	"context"
	"crypto/tls"
	"log/slog"
)

// Trunk is one connection that many links share, each with channels of its own:
// for a fleet of agents in one process, on a machine that does not hold a
// connection for each. An agent on a server of its own has no use for it. The
// broker bounds the channels of a connection (2,047 unless configured); a link
// has two.
type Trunk struct {
	line *line
}

// NewTrunk begins to connect; name is shown by the broker. Its error is about
// the URI only.
func NewTrunk(uri, name string, trust *tls.Config, log *slog.Logger) (*Trunk, error) {
	at, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	at.tls = trust
	t := &Trunk{&line{
		at: at, name: name, log: log, shutOut: admission(),
		setup: func(*session) error { return nil }, tell: func(error) {},
	}}
	t.line.start()
	return t, nil
}

// session waits for the connection and returns a branch of it.
func (t *Trunk) session(ctx context.Context) (*session, error) {
	s, err := t.line.await(ctx)
	if err != nil {
		return nil, err
	}
	return s.branch(), nil
}

// Close closes the connection; the links on it are to be closed before.
func (t *Trunk) Close() { t.line.close() }
