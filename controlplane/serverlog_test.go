package controlplane

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestServerLogWarnsOnceAMinuteOfRefusedConnections(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := newServerLog(slog.New(slog.NewTextHandler(&out, nil)))
	s.clock = func() time.Time { return now }
	log := slog.NewLogLogger(s, slog.LevelDebug)
	for range 120 { // two minutes
		for _, line := range []string{"http: Accept error: accept4: too many open files; retrying in 1s\n", "http: TLS handshake error from 192.0.2.1:1234: EOF\n"} {
			log.Print(line)
		}
		now = now.Add(time.Second)
	}
	if got := out.String(); strings.Count(got, "level=WARN") != 2 || strings.Count(got, "\n") != 2 || !strings.Contains(got, "too many open files; retrying") {
		t.Errorf("the log is:\n%s", got)
	}
}
