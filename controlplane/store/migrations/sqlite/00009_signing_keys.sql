-- +goose Up
-- The public part of the keys with which the control planes sign. The private parts are
-- in a file of the control planes. A seed in signing_keys is moved to that file at the
-- next start.
CREATE TABLE public_keys (
    name       TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    public     BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    signs_from INTEGER NOT NULL,
    retires    INTEGER,
    signature  BLOB    NOT NULL,
    origin     TEXT    NOT NULL,
    PRIMARY KEY (name, generation)
) STRICT;
