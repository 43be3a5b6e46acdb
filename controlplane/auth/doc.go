// Package auth decides which caller may call what. The API and the agent transports
// stand on it; it stands on the store.
//
//   - [Authorizer] checks the access token of each HTTP request: that of an admin, the
//     one that agents share, or an endpoint's own secret.
//   - [Enroller] gives endpoints secrets of their own and revokes them. A server that
//     has an enrolment token chooses a secret and sends it to [Enroller.Enrol]. From
//     then on only that secret is accepted for the endpoint: over HTTP as the agent's
//     bearer token, over RabbitMQ as the password of the user that has the endpoint's
//     name. Only the SHA-256 of tokens and secrets is stored.
//   - [EndpointAuthorizer] checks for a transport whether a caller may act for an
//     endpoint.
package auth
