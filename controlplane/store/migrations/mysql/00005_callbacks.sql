-- +goose Up
-- The receiver of the task's events and the events that it wants; null is none.
ALTER TABLE tasks ADD COLUMN callback BLOB;

-- The events of tasks. next_at is when the next attempt to deliver is due, null when the
-- event was delivered or given up; then data, the task at the event, is null too.
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
