-- +goose Up
-- A secret is kept as its SHA-256. A credential without a hash is that of an
-- endpoint that was revoked without ever having been enrolled.
CREATE TABLE enrol_tokens (
    id         TEXT    NOT NULL PRIMARY KEY,
    hash       BLOB    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    expires_at INTEGER NOT NULL,
    max_uses   INTEGER NOT NULL,
    uses       INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE credentials (
    endpoint    TEXT NOT NULL PRIMARY KEY,
    hash        BLOB UNIQUE,
    token_id    TEXT NOT NULL,
    enrolled_at INTEGER,
    revoked_at  INTEGER,
    revoked_by  TEXT NOT NULL
) STRICT;

CREATE TABLE signing_keys (
    name       TEXT    NOT NULL PRIMARY KEY,
    seed       BLOB    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
