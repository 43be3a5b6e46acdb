// Package service is the handler that starts, stops, restarts, reloads, enables
// and disables units of systemd, and says how they are; and, for others that have
// to restart a unit and know what became of it, the Manager.
//
// systemd is asked over D-Bus: the bus of the system, or, for root, systemd's own
// socket where there is none. What it is asked to do goes on without the process
// that has asked. So an agent that stops does not wait for it, and the next agent
// process finds out what has become of it.
package service
