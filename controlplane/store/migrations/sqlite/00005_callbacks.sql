-- +goose Up
-- The receiver of the task's events and the events that it wants; null is none.
ALTER TABLE tasks ADD COLUMN callback TEXT;

-- The events of tasks. next_at is when the next attempt to deliver is due, null when the
-- event was delivered or given up; then data, the task at the event, is null too.
CREATE TABLE callbacks (
    id           TEXT    NOT NULL PRIMARY KEY,
    task_id      TEXT    NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    event        TEXT    NOT NULL,
    url          TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    data         BLOB,
    attempts     INTEGER NOT NULL,
    next_at      INTEGER,
    delivered_at INTEGER,
    last_error   TEXT    NOT NULL
) STRICT;

CREATE INDEX callbacks_of_task ON callbacks (task_id, id);
CREATE INDEX callbacks_due ON callbacks (next_at) WHERE next_at IS NOT NULL;
