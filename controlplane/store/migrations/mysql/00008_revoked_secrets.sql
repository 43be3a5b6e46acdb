-- +goose Up
-- The hashes of revoked secrets whose endpoint has enrolled again. No endpoint can enrol
-- with them.
CREATE TABLE revoked_secrets (
    hash       BINARY(32)     NOT NULL,
    endpoint   VARBINARY(128) NOT NULL,
    revoked_at BIGINT         NOT NULL,
    PRIMARY KEY (hash)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
