package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// ExpireMissing ends as missing up to limit responses that were not received
// before their deadline, and closes broadcasts; only tasks created after
// createdAfter. It returns how many rows it changed and the finished tasks.
func (s *Store) ExpireMissing(ctx context.Context, createdAfter time.Time, limit int) (int, []tasker.Task, error) {
	changed, finished := 0, []tasker.Task(nil)
	err := s.update(ctx, "end what was not received", func(tx *tx) error {
		changed = 0
		after := max(0, microsOf(createdAfter))
		keys, err := tx.keys(ctx, `SELECT task_id, endpoint FROM responses WHERE expires_at <= ?
			AND (SELECT created_at FROM tasks WHERE id = task_id) > ? ORDER BY expires_at LIMIT ?`, tx.now, int64(after), limit)
		if err != nil {
			return err
		}
		closing, err := tx.strings(ctx, "SELECT id FROM tasks WHERE closes_at <= ? AND created_at > ? ORDER BY closes_at LIMIT ?",
			tx.now, int64(after), limit)
		if err != nil {
			return err
		}
		u, err := tx.lock(ctx, append(tasksOf(keys), closing...))
		if err != nil {
			return err
		}
		if err := u.load(ctx, keys); err != nil {
			return err
		}
		known, err := tx.endpoints(ctx, endpointsOf(keys), "")
		if err != nil {
			return err
		}
		credentials, err := tx.credentials(ctx, endpointsOf(keys), "")
		if err != nil {
			return err
		}
		for k, r := range u.rows {
			if r.expiresAt != 0 && r.expiresAt <= tx.now {
				u.end(r, tasker.Missing, s.whyMissing(r, known[k.endpoint], credentials[k.endpoint], tx.now), true)
				changed++
			}
		}
		for _, id := range closing {
			if t := u.tasks[id]; t != nil && t.closesAt != 0 && t.closesAt <= tx.now {
				t.close()
				changed++
			}
		}
		finished, err = u.flush(ctx)
		return err
	})
	return changed, finished, err
}

// whyMissing says for people why a response was not received.
func (s *Store) whyMissing(r *responseRow, e *endpointRow, c Credential, now micros) string {
	switch {
	case c.RevokedAt != nil:
		return "revoked at " + c.RevokedAt.Format(time.RFC3339)
	case r.Status == tasker.Pending && strings.HasPrefix(r.Reason, "unroutable"):
		return r.Reason
	case e == nil:
		return "never connected"
	case !e.online(now):
		return "offline since " + e.lastSeen.rfc3339()
	case r.Status == tasker.Sent:
		return "not acknowledged"
	case r.Reason != "":
		return r.Reason
	}
	return "not sent"
}

// close ends the time in which a broadcast may be received.
func (t *taskRow) close() {
	t.closesAt, t.nextSendAt, t.changed = 0, 0, true
	if t.Counts.Total() == 0 && t.CancelRequestedAt == nil {
		t.Reason = "no subscriber"
	}
}

// ExpireSilent ends as interrupted (cancelled, where that was asked for) up to
// limit open responses of endpoints that were silent for longer than after, and
// for three of their own heartbeats.
func (s *Store) ExpireSilent(ctx context.Context, after time.Duration, limit int) (int, []tasker.Task, error) {
	changed, finished := 0, []tasker.Task(nil)
	err := s.update(ctx, "end what agents are silent about", func(tx *tx) error {
		changed = 0
		since := tx.now.add(-after)
		keys, err := tx.keys(ctx, `SELECT r.task_id, r.endpoint FROM endpoints e`+tx.use("endpoints_by_silence")+tx.straightJoin+`responses r
			WHERE e.silent_at <= ? AND e.last_seen <= ? AND r.endpoint = e.name AND r.status IN ('received','running') LIMIT ?`, tx.now, since, limit)
		if err != nil || len(keys) == 0 {
			return err
		}
		u, err := tx.lock(ctx, tasksOf(keys))
		if err != nil {
			return err
		}
		if err := u.load(ctx, keys); err != nil {
			return err
		}
		// They are read again because they may have spoken before the lock.
		known, err := tx.endpoints(ctx, endpointsOf(keys), "")
		if err != nil {
			return err
		}
		for k, r := range u.rows {
			e := known[k.endpoint]
			if e == nil || e.lastSeen > since || e.silentAt > tx.now || (r.Status != tasker.Received && r.Status != tasker.Running) {
				continue
			}
			u.end(r, u.lostStatus(r), "silent since "+e.lastSeen.rfc3339(), true)
			changed++
		}
		finished, err = u.flush(ctx)
		return err
	})
	return changed, finished, err
}

func tasksOf(keys []key) []string {
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.task
	}
	return ids
}

func endpointsOf(keys []key) []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.endpoint
	}
	slices.Sort(names)
	return slices.Compact(names)
}
