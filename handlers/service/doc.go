// Package service is the handler that starts, stops, restarts, reloads, enables and disables
// units of systemd, and reports their state. Its Manager lets other handlers restart a unit
// and learn whether it stays active.
//
// systemd executes a job even if the process that requested it ends. So an agent that stops
// does not wait for the job, and the next agent process finds out its result.
package service
