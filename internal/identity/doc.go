// Package identity enrols an agent at a control plane, and stores the agent's identity. It
// chooses a secret, exchanges an enrolment token for the acceptance of that secret, and
// keeps the result in a file of the agent's data directory.
package identity
