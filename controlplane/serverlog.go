package controlplane

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

// acceptInterval is the shortest time between two warnings about connections that cannot be
// accepted. The server tries again every second.
const acceptInterval = time.Minute

// serverLog handles the log of an http.Server. Errors of single connections, such as failed
// TLS handshakes, are debug messages: any client can cause them. An error that keeps the
// server from accepting connections, such as too many open files, is a warning. Only the
// goroutine that accepts connections logs such errors.
type serverLog struct {
	slog.Handler

	clock  func() time.Time
	warned time.Time
}

// newServerLog returns the handler of the log of an http.Server that writes to log.
func newServerLog(log *slog.Logger) *serverLog {
	return &serverLog{Handler: log.Handler(), clock: time.Now}
}

// Enabled implements slog.Handler. Handle decides on the level.
func (s *serverLog) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (s *serverLog) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "http: Accept error") {
		if now := s.clock(); now.Sub(s.warned) >= acceptInterval {
			s.warned = now
			warning := slog.NewRecord(r.Time, slog.LevelWarn, "no new connections are accepted for now; if there are too many open files, raise the limit of the service (LimitNOFILE)", r.PC)
			warning.AddAttrs(slog.String("error", r.Message))
			r = warning
		}
	}
	if !s.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return s.Handler.Handle(ctx, r)
}
