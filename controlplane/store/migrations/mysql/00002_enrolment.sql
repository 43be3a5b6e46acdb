-- +goose Up
-- Only the SHA-256 of a secret is stored. A credential without a hash belongs to an
-- endpoint that was revoked and never enrolled.
CREATE TABLE enrol_tokens (
    id         VARBINARY(36)  NOT NULL,
    hash       BINARY(32)     NOT NULL,
    created_at BIGINT         NOT NULL,
    created_by VARBINARY(255) NOT NULL,
    expires_at BIGINT         NOT NULL,
    max_uses   INT            NOT NULL,
    uses       INT            NOT NULL,
    revoked_at BIGINT,
    PRIMARY KEY (id),
    UNIQUE KEY enrol_tokens_by_hash (hash)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE credentials (
    endpoint    VARBINARY(128) NOT NULL,
    hash        BINARY(32),
    token_id    VARBINARY(36)  NOT NULL,
    enrolled_at BIGINT,
    revoked_at  BIGINT,
    revoked_by  VARBINARY(255) NOT NULL,
    PRIMARY KEY (endpoint),
    UNIQUE KEY credentials_by_hash (hash)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE signing_keys (
    name       VARBINARY(64) NOT NULL,
    seed       BINARY(32)    NOT NULL,
    created_at BIGINT        NOT NULL,
    PRIMARY KEY (name)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
