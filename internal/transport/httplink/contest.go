package httplink

import (
	"net/http"
	"time"
)

// probeTimeout is how long the process that holds an endpoint's name may take to answer a
// probe before another process with the same instance gets the name.
const probeTimeout = 5 * time.Second

// probe is the line of a stream that requests a response from the agent: a POST without
// reports. An older agent ignores the line like a keepalive.
const probe = " \n"

// contest is the claim of another process to the name of a stream. Two processes have the
// same instance if one runs with a copy of the other's data directory, or if an agent was
// started again before the loss of its connection was noticed.
type contest struct {
	// probedAt is when the holder was last probed, answered that it has reported since.
	probedAt time.Time
	answered bool
}

// checkProcessLocked decides whether s may replace old, a stream of the same instance. A
// process may replace its own stream; another one may do so if the holder does not answer a
// probe. Agents that do not name their process replace each other. It must be called with
// mu held.
func (reg *registry) checkProcessLocked(old, s *stream) *problem {
	if old.process == s.process || old.process == "" || s.process == "" {
		return nil
	}
	now := reg.opts.Clock()
	switch silence := now.Sub(old.contest.probedAt); {
	case old.contest.probedAt.IsZero(), old.contest.answered && silence >= probeTimeout:
		old.contest = contest{probedAt: now}
		if err := old.enqueue(frame{body: []byte(probe)}); err != nil {
			return nil // it has ended, or does not read
		}
	case !old.contest.answered && silence >= probeTimeout:
		return nil
	}
	return newProblem(http.StatusConflict,
		"endpoint name %q is in use by another process with the same data directory; if that is a copy of this server, give this one its own name and an empty data_dir; otherwise the other process loses the name when it does not answer for %s",
		s.endpoint, probeTimeout)
}

// answer records that a process has sent a POST.
func (reg *registry) answer(endpoint, process string) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if s := reg.streams[endpoint]; s != nil && s.process == process {
		s.contest.answered = true
	}
}
