// Package auth decides which caller may call what. The router of the API and the hubs of
// the transports call it. The store keeps the digests of enrolment tokens and secrets; the
// access tokens are files of the control plane.
//
//   - [Authorizer] checks the token of each HTTP request. It accepts the admin token, the
//     token that agents share, and the secret of an endpoint.
//   - [Enroller] enrols and revokes endpoints. A server with an enrolment token chooses a
//     secret and sends it to [Enroller.Enrol]. From then on only that secret is accepted
//     for the endpoint: over HTTP as the agent's bearer token, over RabbitMQ as the
//     password of the user with the endpoint's name. Only the SHA-256 of tokens and
//     secrets is stored.
//   - [EndpointAuthorizer] checks for a hub whether a caller may act for an endpoint.
package auth
