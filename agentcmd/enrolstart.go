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

// enrolRetry returns the waits between attempts to enrol. Each attempt feeds the
// watchdog: the longest wait and the time limit of an attempt are together well below
// the watchdog's interval.
func enrolRetry() backoff.Policy {
	return backoff.Policy{First: time.Second, Cap: 30 * time.Second}
}

// enrol enrols as the request file asks, if there is one, and removes the file. It
// returns the setup to run with.
//
// An agent without an identity tries until it succeeds or ctx is done. It reads the file
// before each attempt, so that an operator can correct it. An agent with an identity
// tries once.
func (s *setup) enrol(ctx context.Context, log *slog.Logger, notify *sysservice.Notifier) (*setup, error) {
	logged := ""
	for tries := 0; s.request != nil; tries++ {
		err := s.tryEnrol(ctx)
		if err == nil {
			log.Info("enrolled", "file", s.requestFile())
			s.removeRequest(log)
			return load(s.src)
		}
		if ctx.Err() != nil {
			return s, ctx.Err()
		}
		if s.identity != nil {
			log.Warn("cannot enrol again; the agent keeps its identity", "file", s.requestFile(), "reason", err)
			return s, nil
		}
		if err.Error() != logged {
			logged = err.Error()
			log.Warn("cannot enrol; retrying", "file", s.requestFile(), "reason", err)
		}
		notify.Waiting("the enrolment at " + s.request.Server.String() + ": " + logged)
		if err := enrolRetry().Sleep(ctx, tries); err != nil {
			return s, err
		}
		if s, err = s.reload(); err != nil {
			return s, err
		}
	}
	return s, nil
}

// reload reads the files again. It keeps the old setup while the new files are invalid.
func (s *setup) reload() (*setup, error) {
	next, err := load(s.src)
	var problems config.Problems
	if errors.As(err, &problems) && exists(s.requestFile()) {
		return s, nil
	}
	return next, err
}

func (s *setup) tryEnrol(ctx context.Context) error {
	request, err := newRequest(s.config, *s.request)
	if err != nil {
		return err
	}
	_, err = identity.Enrol(ctx, s.config.DataDir, request)
	return err
}

// removeRequest deletes the file with the enrolment token. If it cannot, the agent enrols
// again at every start, with the same result.
func (s *setup) removeRequest(log *slog.Logger) {
	if err := os.Remove(s.requestFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("cannot remove the file with the enrolment token; remove it yourself", "error", err)
	}
}
