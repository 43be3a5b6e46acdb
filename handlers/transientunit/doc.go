// Package transientunit runs a command in a transient unit of systemd, where it goes
// on when the agent is stopped, killed, or replaced by its own work.
//
// The unit is known by a name that its caller derives from the assignment, so that
// the next agent process finds it again. What is worth knowing of it outlives unit
// and agent, in a directory of the unit's name:
//
//	note     what the caller wants to know later; written before the start
//	output   what the command prints; there is one when it was started
//	record   the script that systemd runs when the command has ended, however,
//	exit     and what that writes: "success exited 0"
//
// systemd-run and systemctl are used rather than D-Bus: they are there wherever
// systemd is, and no connection is lost when systemd itself is upgraded.
//
// The command gets none of the TASKER_ variables by which package process finds
// what an agent has left behind, and is not in the agent's cgroup.
package transientunit
