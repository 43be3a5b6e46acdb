-- +goose Up
-- The public part of the keys with which the control planes sign. The private parts are
-- in a file of the control planes. A seed in signing_keys is moved to that file at the
-- next start.
CREATE TABLE public_keys (
    name       VARBINARY(64)  NOT NULL,
    generation INT            NOT NULL,
    public     BINARY(32)     NOT NULL,
    created_at BIGINT         NOT NULL,
    signs_from BIGINT         NOT NULL,
    retires    BIGINT,
    signature  VARBINARY(64)  NOT NULL,
    origin     VARBINARY(512) NOT NULL,
    PRIMARY KEY (name, generation)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
