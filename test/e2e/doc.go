// Package e2e tests the three programs together, as they are built and run: a
// control plane and agents as processes, driven over HTTP, on both backends (HTTP
// and SQLite; RabbitMQ and MariaDB).
//
// TestHostileAgent runs for a minute. The environment variable TASKER_TEST_HOSTILE sets
// another duration, for example 10m; then also give go test a longer -timeout.
package e2e
