-- +goose Up
-- The hashes of revoked secrets whose endpoint has enrolled again. No endpoint can enrol
-- with them.
CREATE TABLE revoked_secrets (
    hash       BLOB    NOT NULL PRIMARY KEY,
    endpoint   TEXT    NOT NULL,
    revoked_at INTEGER NOT NULL
) STRICT;
