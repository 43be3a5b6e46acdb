package store

import (
	"context"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// Deadlines ends responses that no agent will end.
type Deadlines struct{ db *database }

// ExpireMissing ends as missing up to limit responses that were not received before
// their deadline, and closes broadcasts; only of tasks created after createdAfter. It
// returns how many rows it changed and the tasks that finished.
func (d *Deadlines) ExpireMissing(ctx context.Context, createdAfter time.Time, limit int) (int, []tasker.Task, error) {
	changed, finished := 0, []tasker.Task(nil)
	err := d.db.update(ctx, "end missing responses", func(tx *tx) error {
		changed = 0
		after := int64(max(0, sqldb.MicrosOf(createdAfter)))
		keys, err := queryKeys(ctx, &tx.Conn, `SELECT task_id, endpoint FROM responses WHERE expires_at <= ?
			AND (SELECT created_at FROM tasks WHERE id = task_id) > ? ORDER BY expires_at LIMIT ?`, tx.Now, after, limit)
		if err != nil {
			return err
		}
		closing, err := tx.QueryStrings(ctx, "SELECT id FROM tasks WHERE closes_at <= ? AND created_at > ? ORDER BY closes_at LIMIT ?",
			tx.Now, after, limit)
		if err != nil {
			return err
		}
		cs, err := lockResponses(ctx, tx, keys, closing...)
		if err != nil {
			return err
		}
		if changed, err = endMissing(ctx, cs, endpointNames(keys)); err != nil {
			return err
		}
		for _, id := range closing {
			if t := cs.tasks[id]; t != nil && t.closesAt != 0 && t.closesAt <= tx.Now {
				closeBroadcast(t)
				changed++
			}
		}
		finished, err = cs.write(ctx)
		return err
	})
	return changed, finished, err
}

// endMissing ends the loaded responses whose deadline has passed and returns their
// number.
func endMissing(ctx context.Context, cs *changeSet, names []string) (int, error) {
	endpoints, err := readEndpoints(ctx, &cs.Conn, names, "")
	if err != nil {
		return 0, err
	}
	credentials, err := readCredentials(ctx, &cs.Conn, names, "")
	if err != nil {
		return 0, err
	}
	ended := 0
	for k, r := range cs.responses {
		if r.expiresAt != 0 && r.expiresAt <= cs.Now {
			cs.end(r, tasker.Missing, missingReason(r, endpoints[k.endpoint], credentials[k.endpoint], cs.Now), true)
			ended++
		}
	}
	return ended, nil
}

// missingReason returns the human-readable reason why an order was not received.
func missingReason(r *responseRow, e *endpointRow, c Credential, now sqldb.Micros) string {
	switch {
	case c.RevokedAt != nil:
		return "revoked at " + c.RevokedAt.Format(time.RFC3339)
	case r.Status == tasker.Pending && strings.HasPrefix(r.Reason, "unroutable"):
		return r.Reason
	case e == nil:
		return "never connected"
	case !e.isConnected(now):
		return "offline since " + e.lastSeen.RFC3339()
	case e.presence.Problem != "":
		return truncateProblem(e.presence.Problem)
	case r.Status == tasker.Sent:
		return "not acknowledged"
	case r.Reason != "":
		return r.Reason
	}
	return "not sent"
}

// maxProblem bounds an agent's problem in a reason, in bytes.
const maxProblem = 500

// truncateProblem returns the beginning of a problem that an agent reports.
func truncateProblem(problem string) string {
	return strings.ToValidUTF8(problem[:min(len(problem), maxProblem)], "")
}

// closeBroadcast ends the time in which a broadcast may be received.
func closeBroadcast(t *taskRow) {
	t.closesAt, t.nextSendAt = 0, 0
	t.change()
	if t.Counts.Total() == 0 && t.CancelRequestedAt == nil {
		t.Reason = "no subscriber"
	}
}

// ExpireSilent ends as interrupted up to limit
// responses that agents have received and not ended, of endpoints that have been silent
// for longer than after and for three of their own heartbeats. It returns how many rows
// it changed and the tasks that finished.
func (d *Deadlines) ExpireSilent(ctx context.Context, after time.Duration, limit int) (int, []tasker.Task, error) {
	changed, finished := 0, []tasker.Task(nil)
	err := d.db.update(ctx, "end responses of silent endpoints", func(tx *tx) error {
		changed = 0
		since := tx.Now.Add(-after)
		keys, err := queryKeys(ctx, &tx.Conn, `SELECT r.task_id, r.endpoint FROM endpoints e`+tx.UseIndex("endpoints_by_silence")+tx.StraightJoin+`responses r
			WHERE e.silent_at <= ? AND e.last_seen <= ? AND r.endpoint = e.name AND r.`+statusIn(isWithAgent)+` LIMIT ?`, tx.Now, since, limit)
		if err != nil || len(keys) == 0 {
			return err
		}
		cs, err := lockResponses(ctx, tx, keys)
		if err != nil {
			return err
		}
		// They may have reported before the lock, so they are read again.
		endpoints, err := readEndpoints(ctx, &tx.Conn, endpointNames(keys), "")
		if err != nil {
			return err
		}
		for k, r := range cs.responses {
			e := endpoints[k.endpoint]
			if e == nil || e.lastSeen > since || e.silentAt > tx.Now || !isWithAgent(r.Status) {
				continue
			}
			cs.endLost(r, "silent since "+e.lastSeen.RFC3339())
			changed++
		}
		finished, err = cs.write(ctx)
		return err
	})
	return changed, finished, err
}
