// Package enrol gives endpoints secrets of their own and takes them away again.
//
// A server that has an enrolment token chooses a secret and gives it to Enrol. From
// then on only who has the secret speaks for the endpoint: over HTTP it is the
// agent's bearer token, over RabbitMQ the password of the user that is named as the
// endpoint. Only the SHA-256 of tokens and secrets is stored.
//
// Revoke shuts an endpoint out, by whatever it has spoken before. It is enrolled
// anew with another secret.
package enrol
