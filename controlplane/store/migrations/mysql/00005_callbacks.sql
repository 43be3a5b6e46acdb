-- +goose Up
-- Whom to call and for which events; null is nobody.
ALTER TABLE tasks ADD COLUMN callback BLOB;

-- What is to be told of tasks. next_at is when it is tried again, null when it was
-- delivered or given up; then data, the task as it was, is null too.
CREATE TABLE callbacks (
    id           VARBINARY(36)   NOT NULL,
    task_id      VARBINARY(36)   NOT NULL,
    event        VARBINARY(16)   NOT NULL,
    url          VARBINARY(2048) NOT NULL,
    at           BIGINT          NOT NULL,
    data         MEDIUMBLOB,
    attempts     INT             NOT NULL,
    next_at      BIGINT,
    delivered_at BIGINT,
    last_error   BLOB            NOT NULL,
    PRIMARY KEY (id),
    KEY callbacks_of_task (task_id, id),
    KEY callbacks_due (next_at),
    CONSTRAINT callbacks_of_task FOREIGN KEY (task_id) REFERENCES tasks (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
