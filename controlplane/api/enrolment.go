package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

const enrolPath = "/enrol"

// enrolmentResource manages enrolment tokens, and enrols and revokes endpoints.
type enrolmentResource struct {
	resource
	endpoints              endpointResource
	enroller               *auth.Enroller
	authorizer             *auth.Authorizer
	certificateFingerprint string
}

// EnrolTokenRequest is a request for an enrolment token.
type EnrolTokenRequest struct {
	TTL     string `json:"ttl,omitempty" doc:"How long the token is valid, 1m to 720h: 30m, 1h, or a number of seconds as text." default:"1h" maxLength:"40"`
	MaxUses int    `json:"max_uses,omitempty" doc:"How many endpoints can enrol with the token." default:"1" minimum:"1" maximum:"100000"`
	// Labels become the bound labels of the endpoints.
	Labels map[string]string `json:"labels,omitempty" doc:"The labels of the endpoints that enrol with the token: at most 256." example:"{\"role\": \"web\"}"`
}

// EnrolTokenList is a list of enrolment tokens.
type EnrolTokenList struct {
	Tokens []tasker.EnrolToken `json:"tokens" doc:"The tokens, newest first."`
}

type createTokenInput struct{ Body EnrolTokenRequest }

type tokenInput struct {
	ID string `path:"id" maxLength:"64" doc:"The id of the token."`
}

type enrolInput struct {
	Authorization string `header:"Authorization" doc:"Bearer and an enrolment token."`
	Body          tasker.EnrolRequest
}

type enrolOutput struct {
	Status int
	Body   tasker.Enrolment
}

func (r enrolmentResource) register() {
	op := operation(enrolmentTag, "create-enrol-token", "/tokens", "Create an enrolment token",
		"Creates a token with which servers enrol (`tasker-agent enrol --server URL --token TOKEN`), each under a name of its own. "+
			"`ttl` is how long the token is valid, `max_uses` how many servers can use it, `labels` which labels their endpoints get, in place of all that the names had. Only this answer contains the token.")
	op.Method, op.DefaultStatus = http.MethodPost, http.StatusCreated
	op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	op.Middlewares = huma.Middlewares{r.requireJSON}
	huma.Register(r.huma, op, r.createToken)

	huma.Register(r.huma, operation(enrolmentTag, "list-enrol-tokens", "/tokens", "List enrolment tokens",
		"The newest 1000 tokens, newest first, without their secrets."), r.listTokens)

	op = operation(enrolmentTag, "revoke-enrol-token", "/tokens/{id}", "Revoke an enrolment token",
		"No server can enrol with the token any more. Servers that have enrolled with it stay enrolled.")
	op.Method, op.DefaultStatus = http.MethodDelete, http.StatusNoContent
	op.Errors = append(op.Errors, http.StatusNotFound)
	huma.Register(r.huma, op, r.revokeToken)

	op = operation(enrolmentTag, "enrol", enrolPath, "Enrol a server",
		"Assigns the secret that the server has chosen (32 random bytes in base64url) to the name of its endpoint. The secret is valid for the calls of this endpoint only. "+
			"Repeating the same request changes nothing and answers 200. 401: the token is unknown, revoked, expired or used up. 409: the name is in use, or it was revoked after the token had been created, or the secret was revoked.")
	op.Method, op.DefaultStatus = http.MethodPost, http.StatusCreated
	op.Errors = []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusNotImplemented, http.StatusServiceUnavailable,
	}
	op.Middlewares = huma.Middlewares{r.requireJSON}
	op.MaxBodyBytes = 16 << 10
	huma.Register(r.huma, op, r.enrol)

	op = operation(endpointTag, "revoke-endpoint", "/endpoints/{name}/revoke", "Revoke an endpoint",
		"Invalidates the secret of the endpoint at once. Responses that its agent has received and not ended become `interrupted`. Its name can be enrolled again with another secret and a token that is created after the revocation. Repeating the call changes nothing.")
	op.Method, op.Middlewares = http.MethodPost, huma.Middlewares{r.rejectBody}
	op.Errors = append(op.Errors, http.StatusNotFound, http.StatusNotImplemented)
	huma.Register(r.huma, op, r.revokeEndpoint)
}

func (r enrolmentResource) createToken(ctx context.Context, in *createTokenInput) (*bodyOutput[tasker.EnrolToken], error) {
	ttl, err := tasker.ParseDuration(in.Body.TTL)
	if err != nil {
		return nil, newFieldProblem(http.StatusUnprocessableEntity, "body.ttl "+err.Error(), "body.ttl", err.Error())
	}
	t, err := r.enroller.CreateToken(ctx, ttl, in.Body.MaxUses, in.Body.Labels, auth.CallerFrom(ctx).Name)
	if err != nil {
		return nil, r.problem(ctx, err, "")
	}
	if r.certificateFingerprint != "" {
		t.Token += "." + r.certificateFingerprint
	}
	return &bodyOutput[tasker.EnrolToken]{t}, nil
}

func (r enrolmentResource) listTokens(ctx context.Context, _ *struct{}) (*bodyOutput[EnrolTokenList], error) {
	list, err := r.enroller.Tokens(ctx)
	if err != nil {
		return nil, r.problem(ctx, err, "")
	}
	return &bodyOutput[EnrolTokenList]{EnrolTokenList{list}}, nil
}

func (r enrolmentResource) revokeToken(ctx context.Context, in *tokenInput) (*struct{}, error) {
	if err := r.enroller.RevokeToken(ctx, in.ID); err != nil {
		return nil, r.problem(ctx, err, "there is no enrolment token with this id")
	}
	return nil, nil //nolint:nilnil // 204
}

func (r enrolmentResource) enrol(ctx context.Context, in *enrolInput) (*enrolOutput, error) {
	// The part after a dot, the fingerprint of the certificate, is for the enrolling server only.
	token, _, _ := strings.Cut(auth.BearerToken(in.Authorization), ".")
	if token == "" {
		return nil, enrolmentUnauthorized("an enrolment token is needed: send the header 'Authorization: Bearer …' with the token that `tasker enrol-token create` prints")
	}
	record := recordOf(ctx)
	record.endpoint = truncate(in.Body.Endpoint)
	if err := r.authorizer.Limit(record.address, token); err != nil {
		return nil, tooManyRequests(err)
	}
	enrolment, repeated, err := r.enroller.Enrol(ctx, token, in.Body)
	if err == nil || errors.Is(err, auth.ErrToken) {
		r.authorizer.RecordEnrolment(record.address, token, err == nil)
	}
	if err != nil {
		if id := auth.TokenID(err); id != "" {
			record.caller = "enrolment token " + id
		}
		return nil, r.problem(ctx, err, "")
	}
	status := http.StatusCreated
	if repeated {
		status = http.StatusOK
	}
	return &enrolOutput{Status: status, Body: enrolment}, nil
}

func (r enrolmentResource) revokeEndpoint(ctx context.Context, in *endpointInput) (*bodyOutput[tasker.Endpoint], error) {
	recordOf(ctx).endpoint = truncate(in.Name)
	if err := r.enroller.Revoke(ctx, in.Name, auth.CallerFrom(ctx).Name); err != nil {
		return nil, r.problem(ctx, err, "there is no endpoint of this name")
	}
	return r.endpoints.get(ctx, in)
}

// problem turns an error of the enroller into a problem.
func (r enrolmentResource) problem(ctx context.Context, err error, notFound string) error {
	detail := withoutStoreAction(err)
	switch {
	case errors.Is(err, auth.ErrToken):
		return enrolmentUnauthorized(detail)
	case errors.Is(err, auth.ErrTaken), errors.Is(err, auth.ErrRevoked):
		return newProblem(http.StatusConflict, detail)
	case errors.Is(err, auth.ErrInvalid):
		return newProblem(http.StatusUnprocessableEntity, detail)
	case errors.Is(err, auth.ErrUnsupported):
		return newProblem(http.StatusNotImplemented, detail)
	case errors.Is(err, auth.ErrBroker) && !errors.Is(err, store.ErrUnavailable):
		r.log.WarnContext(ctx, "message queue could not be updated", "route", recordOf(ctx).route, "error", err)
		return unavailable("the message queue could not be updated; repeat the call")
	}
	return r.resource.problem(ctx, err, notFound)
}

// withoutStoreAction returns the text of an error without the store's prefix, which
// names the action that failed.
func withoutStoreAction(err error) string {
	text := err.Error()
	for _, action := range []string{"enrol an endpoint: ", "revoke an endpoint: "} {
		text = strings.TrimPrefix(text, action)
	}
	return text
}

// tooManyRequests returns the problem of an address that has sent too many wrong tokens.
func tooManyRequests(err error) error {
	problem := newProblem(http.StatusTooManyRequests, err.Error())
	if denied, ok := errors.AsType[*auth.DeniedError](err); ok {
		return huma.ErrorWithHeaders(problem, http.Header{"Retry-After": {retrySeconds(denied.RetryAfter)}})
	}
	return problem
}

func enrolmentUnauthorized(detail string) error {
	return huma.ErrorWithHeaders(newProblem(http.StatusUnauthorized, detail), http.Header{"WWW-Authenticate": {`Bearer realm="tasker enrolment"`}})
}
