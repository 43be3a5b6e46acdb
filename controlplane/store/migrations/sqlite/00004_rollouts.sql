-- +goose Up
-- pacing is 0 without a rollout, 1 after it has ended, and 2 while it decides which orders
-- are sent. Responses of waves that have not begun are pending, without next_send_at and
-- expires_at.
ALTER TABLE tasks ADD COLUMN labels TEXT NOT NULL DEFAULT '';
ALTER TABLE tasks ADD COLUMN action TEXT NOT NULL DEFAULT '';
ALTER TABLE tasks ADD COLUMN undoes TEXT NOT NULL DEFAULT '';
ALTER TABLE tasks ADD COLUMN not_before INTEGER;
ALTER TABLE tasks ADD COLUMN pacing INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE responses ADD COLUMN wave INTEGER NOT NULL DEFAULT 0;

-- check_at is when a decision about the rollout is due, null when it waits for a request
-- or has ended. claims is its exclusion: null while it keeps no other rollout from its
-- endpoints, 1 while it waits for others, 2 while it is performed.
CREATE TABLE rollouts (
    task_id   TEXT    NOT NULL PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    spec      TEXT    NOT NULL,
    exclusive INTEGER NOT NULL,
    waves     TEXT    NOT NULL,
    wave      INTEGER NOT NULL,
    state     TEXT    NOT NULL,
    resume    TEXT    NOT NULL,
    accepted  INTEGER NOT NULL,
    reason    TEXT    NOT NULL,
    until_at INTEGER,
    rollback_task TEXT NOT NULL,
    claims    INTEGER,
    check_at  INTEGER
) STRICT;

CREATE INDEX rollouts_due ON rollouts (check_at) WHERE check_at IS NOT NULL;
CREATE INDEX rollouts_by_state ON rollouts (state);
CREATE INDEX rollouts_claiming ON rollouts (claims) WHERE claims IS NOT NULL;

-- The requests to change tasks, in the order of the tasks' versions.
CREATE TABLE controls (
    task_id TEXT    NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    action  TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    by_whom TEXT    NOT NULL,
    PRIMARY KEY (task_id, version)
) STRICT;

INSERT INTO controls SELECT id, version, 'retry', retried_at, retried_by FROM tasks WHERE retried_at IS NOT NULL;
ALTER TABLE tasks DROP COLUMN retried_at;
ALTER TABLE tasks DROP COLUMN retried_by;

CREATE TABLE leases (
    name   TEXT    NOT NULL PRIMARY KEY,
    holder TEXT    NOT NULL,
    until_at INTEGER NOT NULL
) STRICT;
