-- +goose Up
-- The labels that an enrolment token or an admin has bound to an endpoint.
CREATE TABLE endpoint_labels (
    endpoint VARBINARY(128) NOT NULL,
    labels   MEDIUMBLOB,
    PRIMARY KEY (endpoint)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

ALTER TABLE enrol_tokens ADD COLUMN labels MEDIUMBLOB;

-- Enrolled endpoints keep the labels that their agents have reported.
INSERT INTO endpoint_labels (endpoint, labels)
SELECT e.name, CAST(JSON_EXTRACT(CONVERT(e.presence USING utf8mb4), '$.labels') AS CHAR CHARACTER SET utf8mb4)
FROM endpoints e JOIN credentials c ON c.endpoint = e.name
WHERE c.enrolled_at IS NOT NULL AND c.revoked_at IS NULL
  AND JSON_TYPE(JSON_EXTRACT(CONVERT(e.presence USING utf8mb4), '$.labels')) = 'OBJECT';
