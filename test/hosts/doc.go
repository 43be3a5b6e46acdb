// Package hosts tests the daemons as services of servers with a real systemd, in
// networks of their own. The script lab makes the servers; `make test-hosts` runs
// the tests.
package hosts
