package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/reportrules"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

func TestRefusalsAreLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	now := time.Unix(0, 0)
	r := wire.NewRefusals(slog.New(slog.NewTextHandler(&log, nil)), func() time.Time { return now })
	lines := func() []string {
		defer log.Reset()
		return strings.Split(strings.TrimSpace(log.String()), "\n")
	}
	for range 100 {
		r.Add("web-1", fmt.Errorf("%w: seq is -1", reportrules.ErrRefused), "bytes", 7)
	}
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], "endpoint=web-1 reason=rules") || !strings.Contains(got[0], "seq is -1") || !strings.Contains(got[0], "bytes=7") {
		t.Errorf("logged %q", got)
	}
	r.Add("web-2", wire.ErrVersion)
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], "endpoint=web-2 reason=version") {
		t.Errorf("logged %q", got)
	}
	now = now.Add(time.Minute)
	r.Add("web-1", errors.New("other"))
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], "further_since_last=99") {
		t.Errorf("a minute later logged %q", got)
	}
	for i := range 5000 {
		r.Add(fmt.Sprint("name-", i), wire.ErrSender)
	}
	if n := len(lines()); n > 1001 {
		t.Errorf("%d lines for 5000 names in a minute", n)
	}
}

func TestQuotaOfAnEndpoint(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	q := wire.NewQuota(func() time.Time { return now })
	take := func(endpoint string, reports, bytes int) (n int) {
		for n < 1_000_000 && q.Take(endpoint, reports, bytes) {
			n++
		}
		return n
	}
	if n := take("web-1", 1, 0); n != 20_000 {
		t.Errorf("%d reports at once, want 20000", n)
	}
	if n := take("web-2", 1, 1<<20); n != 32 {
		t.Errorf("%d MiB at once, want 32", n)
	}
	if n := take("web-3", wire.RefusedReport, 0); n != 200 {
		t.Errorf("%d refused reports at once, want 200", n)
	}
	now = now.Add(time.Second)
	if n := take("web-1", 1, 0); n != 2000 {
		t.Errorf("%d reports a second later, want 2000", n)
	}
	if n := take("web-2", 1, 1<<20); n != 8 {
		t.Errorf("%d MiB a second later, want 8", n)
	}
	now = now.Add(time.Hour)
	if n := take("web-1", 1, 0); n != 20_000 {
		t.Errorf("%d reports an hour later, want 20000", n)
	}
}
