// Package e2e tests the three programs together, as they are built and run: a
// control plane and agents as processes, driven over HTTP, on both backends (HTTP
// and SQLite; RabbitMQ and MariaDB).
package e2e
