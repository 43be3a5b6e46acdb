-- +goose Up
-- pacing is 0 without a rollout, 1 after it has ended, and 2 while it decides which orders
-- are sent. Responses of waves that have not begun are pending, without next_send_at and
-- expires_at.
ALTER TABLE tasks
    ADD COLUMN labels     VARBINARY(4096) NOT NULL DEFAULT '',
    ADD COLUMN action     VARBINARY(16)   NOT NULL DEFAULT '',
    ADD COLUMN undoes     VARBINARY(36)   NOT NULL DEFAULT '',
    ADD COLUMN not_before BIGINT,
    ADD COLUMN pacing     TINYINT         NOT NULL DEFAULT 0,
    ADD COLUMN paused     TINYINT         NOT NULL DEFAULT 0;
ALTER TABLE responses ADD COLUMN wave INT NOT NULL DEFAULT 0;

-- check_at is when a decision about the rollout is due, null when it waits for a request
-- or has ended. claims is its exclusion: null while it keeps no other rollout from its
-- endpoints, 1 while it waits for others, 2 while it is performed.
CREATE TABLE rollouts (
    task_id   VARBINARY(36) NOT NULL,
    spec      MEDIUMBLOB    NOT NULL,
    exclusive TINYINT       NOT NULL,
    waves     MEDIUMBLOB    NOT NULL,
    wave      INT           NOT NULL,
    state     VARBINARY(16) NOT NULL,
    resume    VARBINARY(16) NOT NULL,
    accepted  INT           NOT NULL,
    reason    MEDIUMBLOB    NOT NULL,
    until_at BIGINT,
    rollback_task VARBINARY(36) NOT NULL,
    claims    TINYINT,
    check_at  BIGINT,
    PRIMARY KEY (task_id),
    KEY rollouts_due (check_at),
    KEY rollouts_by_state (state),
    KEY rollouts_claiming (claims),
    CONSTRAINT rollouts_of_task FOREIGN KEY (task_id) REFERENCES tasks (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- The requests to change tasks, in the order of the tasks' versions.
CREATE TABLE controls (
    task_id VARBINARY(36)  NOT NULL,
    version BIGINT         NOT NULL,
    action  VARBINARY(16)  NOT NULL,
    at      BIGINT         NOT NULL,
    by_whom BLOB           NOT NULL,
    PRIMARY KEY (task_id, version),
    CONSTRAINT controls_of_task FOREIGN KEY (task_id) REFERENCES tasks (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

INSERT INTO controls SELECT id, version, 'retry', retried_at, retried_by FROM tasks WHERE retried_at IS NOT NULL;
ALTER TABLE tasks DROP COLUMN retried_at;
ALTER TABLE tasks DROP COLUMN retried_by;

CREATE TABLE leases (
    name   VARBINARY(64) NOT NULL,
    holder VARBINARY(64) NOT NULL,
    until_at BIGINT        NOT NULL,
    PRIMARY KEY (name)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
