-- +goose Up
-- An endpoint that does not report until silent_at counts as disconnected. The time
-- depends on the interval of its heartbeats.
ALTER TABLE endpoints ADD COLUMN silent_at BIGINT NOT NULL DEFAULT 0;
UPDATE endpoints SET silent_at = last_seen;
CREATE INDEX endpoints_by_silence ON endpoints (silent_at, connected);
DROP INDEX endpoints_by_last_seen ON endpoints;
