// Package fleetbench measures a control plane under a fleet: a control plane of its
// own as a child process, N agents in this process with their real code from
// link to journal, and tasks that go through the public API.
//
// The floor is measured in the same run: a plain loop that has the broker carry
// as many messages of the same size to as many queues, has each answered as often
// as the fleet did, and stores the answers in batches in the same database. What
// counts is the ratio of the two, because both have the same machine.
//
// Everything is made for the run, a vhost with a user and a database among it,
// and removed at its end.
package fleetbench
