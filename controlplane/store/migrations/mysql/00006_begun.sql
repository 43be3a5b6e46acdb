-- +goose Up
-- An earlier attempt was started, or may have been, and was not undone.
ALTER TABLE responses ADD COLUMN begun TINYINT NOT NULL DEFAULT 0;
