// Package identity is how a server becomes an endpoint: it chooses a secret, has it
// accepted by the control plane for an enrolment token, and keeps who it is then,
// its identity, in a file of the agent's data directory.
package identity
