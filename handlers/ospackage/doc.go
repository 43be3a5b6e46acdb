// Package ospackage is the handler that installs, upgrades, removes and holds
// packages, with the package manager of the server, in one transaction.
//
// It goes in two steps. What only reads and downloads comes first, in processes of
// the agent, which a cancel ends at once: a version that nobody has and a mirror that
// is away are found there, with nothing changed. Then the package manager, which
// needs the network no more, runs in a transient unit of systemd (package transient):
// neither the agent's end nor a cancel leaves packages half installed.
package ospackage
