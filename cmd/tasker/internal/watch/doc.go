// Package watch follows a task and shows its progress: as plain lines for logs, or as a
// live screen with keys for a person at a terminal. The commands choose the View.
package watch
