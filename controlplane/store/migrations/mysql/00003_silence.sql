-- +goose Up
-- From silent_at on an endpoint that has not spoken again counts as disconnected:
-- how long that is depends on the interval of its own heartbeats.
ALTER TABLE endpoints ADD COLUMN silent_at BIGINT NOT NULL DEFAULT 0;
UPDATE endpoints SET silent_at = last_seen;
CREATE INDEX endpoints_by_silence ON endpoints (silent_at, connected);
DROP INDEX endpoints_by_last_seen ON endpoints;
