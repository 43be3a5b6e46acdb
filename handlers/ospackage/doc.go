// Package ospackage installs, upgrades, removes and holds packages with the package
// manager of the server. It is a handler.
//
// A task has two stages. The first stage only reads and downloads. It runs in child
// processes of the agent, which a cancel ends at once, and it changes nothing; an unknown
// version or an unreachable mirror is found here. In the second stage the package manager,
// which no longer needs the network, changes all packages in one transaction. It runs in a
// transient unit of systemd (package transientunit), so that neither the end of the agent
// nor a cancel leaves packages half installed.
package ospackage
