-- +goose Up
-- Names, identifiers and statuses are VARBINARY, so that they are compared as bytes.
-- Times are microseconds since 1970 UTC, durations microseconds. The nullable
-- columns next_send_at, cancel_send_at, expires_at and closes_at are null when
-- nothing is due.
CREATE TABLE tasks (
    id                  VARBINARY(36)  NOT NULL,
    type                VARBINARY(64)  NOT NULL,
    identifier          VARBINARY(255) NOT NULL,
    payload             MEDIUMBLOB     NOT NULL,
    endpoints           MEDIUMBLOB,
    fingerprint         BINARY(32)     NOT NULL,
    status              VARBINARY(16)  NOT NULL,
    reason              MEDIUMBLOB     NOT NULL,
    counts              VARBINARY(512) NOT NULL,
    attempt             INT            NOT NULL,
    receive_timeout     BIGINT         NOT NULL,
    receive_deadline    BIGINT         NOT NULL,
    timeout             BIGINT         NOT NULL,
    created_at          BIGINT         NOT NULL,
    finished_at         BIGINT,
    cancel_requested_at BIGINT,
    cancel_requested_by BLOB           NOT NULL,
    retried_at          BIGINT,
    retried_by          BLOB           NOT NULL,
    broadcast           TINYINT        NOT NULL,
    broadcast_sent      TINYINT        NOT NULL,
    closes_at           BIGINT,
    next_send_at        BIGINT,
    send_tries          INT            NOT NULL,
    cancel_send_at      BIGINT,
    cancel_tries        INT            NOT NULL,
    version             BIGINT         NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY tasks_by_identifier (type, identifier),
    KEY tasks_by_type (type, id),
    KEY tasks_by_status (type, status, id),
    KEY tasks_unfinished (finished_at),
    KEY tasks_closing (closes_at),
    KEY tasks_due (next_send_at),
    KEY tasks_cancels_due (cancel_send_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE responses (
    task_id          VARBINARY(36)  NOT NULL,
    endpoint         VARBINARY(128) NOT NULL,
    status           VARBINARY(16)  NOT NULL,
    attempt          INT            NOT NULL,
    seq              BIGINT         NOT NULL,
    reason           MEDIUMBLOB     NOT NULL,
    error            MEDIUMBLOB     NOT NULL,
    result           MEDIUMBLOB,
    exit_code        BIGINT,
    progress         MEDIUMBLOB,
    presumed         TINYINT        NOT NULL,
    late             TINYINT        NOT NULL,
    sent_at          BIGINT,
    received_at      BIGINT,
    started_at       BIGINT,
    finished_at      BIGINT,
    output_bytes     BIGINT         NOT NULL,
    output_truncated TINYINT        NOT NULL,
    expires_at       BIGINT,
    next_send_at     BIGINT,
    send_tries       INT            NOT NULL,
    cancel_send_at   BIGINT,
    cancel_tries     INT            NOT NULL,
    version          BIGINT         NOT NULL,
    PRIMARY KEY (task_id, endpoint),
    KEY responses_by_version (task_id, version),
    KEY responses_by_endpoint (endpoint, status),
    KEY responses_due (next_send_at),
    KEY responses_cancels_due (cancel_send_at),
    KEY responses_expiring (expires_at),
    CONSTRAINT responses_of_task FOREIGN KEY (task_id) REFERENCES tasks (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE chunks (
    task_id  VARBINARY(36)  NOT NULL,
    endpoint VARBINARY(128) NOT NULL,
    attempt  INT            NOT NULL,
    at_byte  BIGINT         NOT NULL,
    data     MEDIUMBLOB     NOT NULL,
    PRIMARY KEY (task_id, endpoint, attempt, at_byte),
    CONSTRAINT chunks_of_task FOREIGN KEY (task_id) REFERENCES tasks (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE endpoints (
    name       VARBINARY(128) NOT NULL,
    instance   VARBINARY(255) NOT NULL,
    session    VARBINARY(255) NOT NULL,
    connected  TINYINT        NOT NULL,
    first_seen BIGINT         NOT NULL,
    last_seen  BIGINT         NOT NULL,
    presence   MEDIUMBLOB     NOT NULL,
    PRIMARY KEY (name),
    KEY endpoints_by_last_seen (last_seen, connected)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
