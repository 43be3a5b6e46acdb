-- +goose Up
-- The labels that an enrolment token or an admin has bound to an endpoint.
CREATE TABLE endpoint_labels (
    endpoint TEXT NOT NULL PRIMARY KEY,
    labels   TEXT
) STRICT;

ALTER TABLE enrol_tokens ADD COLUMN labels TEXT;

-- Enrolled endpoints keep the labels that their agents have reported.
INSERT INTO endpoint_labels (endpoint, labels)
SELECT e.name, json_extract(e.presence, '$.labels')
FROM endpoints e JOIN credentials c ON c.endpoint = e.name
WHERE c.enrolled_at IS NOT NULL AND c.revoked_at IS NULL AND json_type(e.presence, '$.labels') = 'object';
