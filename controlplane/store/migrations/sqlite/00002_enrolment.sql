-- +goose Up
-- Only the SHA-256 of a secret is stored. A credential without a hash belongs to an
-- endpoint that was revoked and never enrolled.
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
