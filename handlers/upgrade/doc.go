// Package upgrade is the handler that upgrades the agent itself, with the package
// manager that has installed it.
//
// The package's own scripts restart the agent, which would kill a package manager
// that is a child of it. So the package manager runs in a transient unit of
// systemd (package transient), the agent that stops leaves it alone, and the agent
// that starts finds it, or what has become of it, by the assignment's task and
// attempt.
//
// What is said in the end is what is installed then. Where nobody knows how the
// package manager ended, because the host lost its power say, that alone decides:
// the wanted version, completely installed, is a success.
package upgrade
