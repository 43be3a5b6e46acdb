package agentcmd

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
	"github.com/MatthiasWiesner/tasker/internal/identity"
	"github.com/MatthiasWiesner/tasker/internal/sysservice"
)

// enrolRetry is how an agent waits between its attempts to enrol. With the time
// limit of an attempt it stays well below the watchdog's interval, which is fed at
// each.
func enrolRetry() backoff.Policy {
	return backoff.Policy{First: time.Second, Cap: 30 * time.Second}
}

// enrol does what the request file asks for, if there is one, and removes it. An
// agent without an identity tries until it has one, reading the file anew each
// time, so that it can be put right; it returns ctx's error if it is stopped first.
// One with an identity tries once: it can do without.
func (s *setup) enrol(ctx context.Context, log *slog.Logger, notify *sysservice.Notifier) (*setup, error) {
	said := ""
	for tries := 0; s.request != nil; tries++ {
		err := s.enrolOnce(ctx)
		if err == nil {
			log.Info("enrolled", "file", s.requestFile())
			s.removeRequest(log)
			return load(s.src)
		}
		if ctx.Err() != nil {
			return s, ctx.Err()
		}
		if s.identity != nil {
			log.Warn("not enrolled anew; going on as before", "file", s.requestFile(), "reason", err)
			return s, nil
		}
		if err.Error() != said {
			said = err.Error()
			log.Warn("not enrolled; trying again", "file", s.requestFile(), "reason", err)
		}
		notify.Waiting("the enrolment at " + s.request.Server.String() + ": " + said)
		wait := enrolRetry()
		if err := wait.Sleep(ctx, tries); err != nil {
			return s, err
		}
		if s, err = s.again(); err != nil {
			return s, err
		}
	}
	return s, nil
}

// again reads the files anew. While the request is not in order, the old one is
// kept.
func (s *setup) again() (*setup, error) {
	next, err := load(s.src)
	var problems config.Problems
	if errors.As(err, &problems) && exists(s.requestFile()) {
		return s, nil
	}
	return next, err
}

func (s *setup) enrolOnce(ctx context.Context) error {
	request, err := newRequest(s.config, *s.request)
	if err != nil {
		return err
	}
	_, err = identity.Enrol(ctx, s.config.DataDir, request)
	return err
}

// removeRequest leaves no token lying about. Where the agent may not do that, it
// asks again at each start, which the control plane answers as before.
func (s *setup) removeRequest(log *slog.Logger) {
	if err := os.Remove(s.requestFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("remove the file with the enrolment token yourself: the agent may not", "error", err)
	}
}
