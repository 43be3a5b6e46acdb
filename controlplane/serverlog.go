package controlplane

import (
	"bytes"
	"log"
	"log/slog"
	"time"
)

// acceptInterval is the shortest time between two warnings about connections that cannot be
// accepted. The server tries again every second.
const acceptInterval = time.Minute

// serverLog is the writer behind the log of an http.Server, whose logger calls it one line at
// a time. Errors of single connections, such as failed TLS handshakes, are debug messages: any
// client can cause them. An error that keeps the server from accepting connections, such as
// too many open files, is a warning.
type serverLog struct {
	log    *slog.Logger
	clock  func() time.Time
	warned time.Time
}

// newServerLog returns the logger of an http.Server that writes to log.
func newServerLog(to *slog.Logger) *log.Logger {
	return log.New(&serverLog{log: to, clock: time.Now}, "", 0)
}

// Write logs one line.
func (s *serverLog) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	now := s.clock()
	if !bytes.HasPrefix(line, []byte("http: Accept error")) || now.Sub(s.warned) < acceptInterval {
		s.log.Debug(text)
		return len(line), nil
	}
	s.warned = now
	s.log.Warn("no new connections are accepted for now; if there are too many open files, raise the limit of the service (LimitNOFILE)", "error", text)
	return len(line), nil
}
