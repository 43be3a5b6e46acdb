-- +goose Up
-- Times are microseconds since 1970 UTC, durations microseconds. The nullable
-- columns next_send_at, cancel_send_at, expires_at and closes_at are null when
-- nothing is due, so that their indexes hold only due rows.
CREATE TABLE tasks (
    id                  TEXT    NOT NULL PRIMARY KEY,
    type                TEXT    NOT NULL,
    identifier          TEXT    NOT NULL,
    payload             BLOB    NOT NULL,
    endpoints           TEXT,
    fingerprint         BLOB    NOT NULL,
    status              TEXT    NOT NULL,
    reason              TEXT    NOT NULL,
    counts              TEXT    NOT NULL,
    attempt             INTEGER NOT NULL,
    receive_timeout     INTEGER NOT NULL,
    receive_deadline    INTEGER NOT NULL,
    timeout             INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,
    finished_at         INTEGER,
    cancel_requested_at INTEGER,
    cancel_requested_by TEXT    NOT NULL,
    retried_at          INTEGER,
    retried_by          TEXT    NOT NULL,
    broadcast           INTEGER NOT NULL,
    broadcast_sent      INTEGER NOT NULL,
    closes_at           INTEGER,
    next_send_at        INTEGER,
    send_tries          INTEGER NOT NULL,
    cancel_send_at      INTEGER,
    cancel_tries        INTEGER NOT NULL,
    version             INTEGER NOT NULL,
    UNIQUE (type, identifier)
) STRICT;

CREATE INDEX tasks_by_type ON tasks (type, id);
CREATE INDEX tasks_by_status ON tasks (type, status, id);
CREATE INDEX tasks_unfinished ON tasks (finished_at);
CREATE INDEX tasks_closing ON tasks (closes_at) WHERE closes_at IS NOT NULL;
CREATE INDEX tasks_due ON tasks (next_send_at) WHERE next_send_at IS NOT NULL;
CREATE INDEX tasks_cancels_due ON tasks (cancel_send_at) WHERE cancel_send_at IS NOT NULL;

CREATE TABLE responses (
    task_id          TEXT    NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    endpoint         TEXT    NOT NULL,
    status           TEXT    NOT NULL,
    attempt          INTEGER NOT NULL,
    seq              INTEGER NOT NULL,
    reason           TEXT    NOT NULL,
    error            TEXT    NOT NULL,
    result           BLOB,
    exit_code        INTEGER,
    progress         TEXT,
    presumed         INTEGER NOT NULL,
    late             INTEGER NOT NULL,
    sent_at          INTEGER,
    received_at      INTEGER,
    started_at       INTEGER,
    finished_at      INTEGER,
    output_bytes     INTEGER NOT NULL,
    output_truncated INTEGER NOT NULL,
    expires_at       INTEGER,
    next_send_at     INTEGER,
    send_tries       INTEGER NOT NULL,
    cancel_send_at   INTEGER,
    cancel_tries     INTEGER NOT NULL,
    version          INTEGER NOT NULL,
    PRIMARY KEY (task_id, endpoint)
) STRICT;

CREATE INDEX responses_by_version ON responses (task_id, version);
CREATE INDEX responses_by_endpoint ON responses (endpoint, status);
CREATE INDEX responses_due ON responses (next_send_at) WHERE next_send_at IS NOT NULL;
CREATE INDEX responses_cancels_due ON responses (cancel_send_at) WHERE cancel_send_at IS NOT NULL;
CREATE INDEX responses_expiring ON responses (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE chunks (
    task_id  TEXT    NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    endpoint TEXT    NOT NULL,
    attempt  INTEGER NOT NULL,
    at_byte  INTEGER NOT NULL,
    data     BLOB    NOT NULL,
    PRIMARY KEY (task_id, endpoint, attempt, at_byte)
) STRICT;

CREATE TABLE endpoints (
    name       TEXT    NOT NULL PRIMARY KEY,
    instance   TEXT    NOT NULL,
    session    TEXT    NOT NULL,
    connected  INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    presence   TEXT    NOT NULL
) STRICT;

CREATE INDEX endpoints_by_last_seen ON endpoints (last_seen, connected);
