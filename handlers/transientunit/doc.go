// Package transientunit runs a command in a transient unit of systemd, in which the command
// continues when the agent is stopped, killed, or upgraded by that very command.
//
// The caller derives the name of the unit from the assignment, so that the next agent
// process finds the unit again. A directory with the unit's name outlives the unit and the
// agent:
//
//	note     data of the caller, written before the start
//	output   the output of the command; it exists once the command was started
//	record   the script that systemd runs when the command has ended for any reason
//	exit     the line which that script writes, like "success exited 0"
//
// The package calls systemd over D-Bus with a new connection for each call, because an
// upgrade of systemd drops the connections. ADR 18 compares this with systemd-run.
//
// The command gets none of the TASKER_ variables by which package process finds leftover
// processes, and it is not in the agent's cgroup.
package transientunit
