// Package fleetbench measures a control plane under a simulated fleet: a control plane as
// a child process, agents in this process with their real code from link to journal, and
// tasks through the public API.
//
// The same run can measure a plain loop for comparison. The loop sends as many messages of
// the same size through the same broker, has each answered as often as by the fleet, and
// stores the answers in batches in the same database. Compare the ratios of two machines,
// not their times.
//
// A run creates a vhost with a user and a database, and removes them at its end.
package fleetbench
