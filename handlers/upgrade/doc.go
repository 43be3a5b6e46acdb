// Package upgrade upgrades the agent itself with the package manager that has installed
// it. It is a handler.
//
// The scripts of the package restart the agent, which would kill a package manager that
// is a child of the agent. Therefore the package manager runs in a transient unit of
// systemd (package transientunit), which continues when the agent stops. The next agent
// process finds the unit, or its result, by the task and the attempt of the assignment.
//
// The result depends on the version that is installed at the end. If the exit status of
// the package manager is unknown, for example after a power failure, the upgrade has
// succeeded if the wanted version is completely installed.
package upgrade
