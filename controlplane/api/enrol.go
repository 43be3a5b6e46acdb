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

const (
	enrolPath = "/enrol"
	enrolTag  = "enrolment"
)

// EnrolTokenRequest is what a new token shall be good for.
type EnrolTokenRequest struct {
	TTL     string `json:"ttl,omitempty" default:"1h" maxLength:"40" doc:"How long the token is valid, 1m to 720h: 30m, 1h, or a number of seconds as text."`
	MaxUses int    `json:"max_uses,omitempty" default:"1" minimum:"1" maximum:"100000" doc:"How many endpoints can enrol with the token."`
}

// EnrolTokenList are enrolment tokens, newest first.
type EnrolTokenList struct {
	Tokens []tasker.EnrolToken `json:"tokens" doc:"The tokens, newest first."`
}

type createTokenInput struct{ Body EnrolTokenRequest }

type tokenInput struct {
	ID string `path:"id" maxLength:"64" doc:"The token's id."`
}

type enrolInput struct {
	Authorization string `header:"Authorization" doc:"Bearer and an enrolment token."`
	Body          tasker.EnrolRequest
}

type enrolOutput struct {
	Status int
	Body   tasker.Enrolment
}

func (a *API) enrolRoutes() {
	op := operation("create-enrol-token", "/tokens", "Create an enrolment token", createTokenText)
	op.Method, op.DefaultStatus, op.Tags = http.MethodPost, http.StatusCreated, []string{enrolTag}
	op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	op.Middlewares = huma.Middlewares{a.onlyJSON}
	huma.Register(a.huma, op, a.createToken)

	op = operation("list-enrol-tokens", "/tokens", "List enrolment tokens", listTokensText)
	op.Tags = []string{enrolTag}
	huma.Register(a.huma, op, a.tokens)

	op = operation("revoke-enrol-token", "/tokens/{id}", "Revoke an enrolment token", revokeTokenText)
	op.Method, op.DefaultStatus, op.Tags = http.MethodDelete, http.StatusNoContent, []string{enrolTag}
	op.Errors = append(op.Errors, http.StatusNotFound)
	huma.Register(a.huma, op, a.revokeToken)

	op = operation("enrol", enrolPath, "Enrol a server", enrolText)
	op.Method, op.DefaultStatus, op.Tags = http.MethodPost, http.StatusCreated, []string{enrolTag}
	op.Errors = []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity, http.StatusNotImplemented, http.StatusServiceUnavailable,
	}
	op.Middlewares = huma.Middlewares{a.onlyJSON}
	op.MaxBodyBytes = 16 << 10
	huma.Register(a.huma, op, a.enrolServer)

	op = operation("revoke-endpoint", "/endpoints/{name}/revoke", "Shut an endpoint out", revokeText)
	op.Method, op.Middlewares = http.MethodPost, huma.Middlewares{a.noBody}
	op.Errors = append(op.Errors, http.StatusNotFound, http.StatusNotImplemented)
	huma.Register(a.huma, op, a.revoke)
}

func (a *API) createToken(ctx context.Context, in *createTokenInput) (*struct{ Body tasker.EnrolToken }, error) {
	ttl, err := tasker.ParseDuration(in.Body.TTL)
	if err != nil {
		return nil, problem(http.StatusUnprocessableEntity, "body.ttl "+err.Error(), &huma.ErrorDetail{Location: "body.ttl", Message: err.Error()})
	}
	t, err := a.enroller.CreateToken(ctx, ttl, in.Body.MaxUses, auth.CallerFrom(ctx).Name)
	if err != nil {
		return nil, a.enrolFailure(ctx, err, "")
	}
	if a.certificate != "" {
		t.Token += "." + a.certificate
	}
	return &struct{ Body tasker.EnrolToken }{t}, nil
}

func (a *API) tokens(ctx context.Context, _ *struct{}) (*struct{ Body EnrolTokenList }, error) {
	list, err := a.enroller.Tokens(ctx)
	if err != nil {
		return nil, a.enrolFailure(ctx, err, "")
	}
	return &struct{ Body EnrolTokenList }{EnrolTokenList{list}}, nil
}

func (a *API) revokeToken(ctx context.Context, in *tokenInput) (*struct{}, error) {
	if err := a.enroller.RevokeToken(ctx, in.ID); err != nil {
		return nil, a.enrolFailure(ctx, err, "there is no enrolment token with this id")
	}
	return nil, nil //nolint:nilnil // 204
}

func (a *API) enrolServer(ctx context.Context, in *enrolInput) (*enrolOutput, error) {
	// The part after a dot, the certificate's fingerprint, is for the enrolling server only.
	token, _, _ := strings.Cut(auth.BearerToken(in.Authorization), ".")
	if token == "" {
		return nil, challenge("an enrolment token is needed: send the header 'Authorization: Bearer …' with what `tasker enrol-token create` prints")
	}
	seen(ctx).endpoint = cut(in.Body.Endpoint)
	e, repeated, err := a.enroller.Enrol(ctx, token, in.Body)
	if err != nil {
		return nil, a.enrolFailure(ctx, err, "")
	}
	status := http.StatusCreated
	if repeated {
		status = http.StatusOK
	}
	return &enrolOutput{Status: status, Body: e}, nil
}

func (a *API) revoke(ctx context.Context, in *endpointInput) (*struct{ Body tasker.Endpoint }, error) {
	seen(ctx).endpoint = cut(in.Name)
	if err := a.enroller.Revoke(ctx, in.Name, auth.CallerFrom(ctx).Name); err != nil {
		return nil, a.enrolFailure(ctx, err, "there is no endpoint of this name")
	}
	return a.endpoint(ctx, in)
}

// enrolFailure turns an error of the Enroller into a problem.
func (a *API) enrolFailure(ctx context.Context, err error, notFound string) error {
	switch {
	case errors.Is(err, auth.ErrToken):
		return challenge(told(err))
	case errors.Is(err, auth.ErrTaken), errors.Is(err, auth.ErrRevoked):
		return problem(http.StatusConflict, told(err))
	case errors.Is(err, auth.ErrInvalid):
		return problem(http.StatusUnprocessableEntity, told(err))
	case errors.Is(err, auth.ErrUnsupported):
		return problem(http.StatusNotImplemented, told(err))
	case errors.Is(err, auth.ErrBroker) && !errors.Is(err, store.ErrUnavailable):
		a.log.WarnContext(ctx, "message queue could not be updated", "route", seen(ctx).route, "error", err)
		return huma.ErrorWithHeaders(problem(http.StatusServiceUnavailable, "the message queue could not be updated; repeat the call"),
			http.Header{"Retry-After": {retryAfter}})
	}
	return a.failure(ctx, err, notFound)
}

// told is an error without what the store was doing.
func told(err error) string {
	text := err.Error()
	for _, doing := range []string{"enrol an endpoint: ", "revoke an endpoint: "} {
		text = strings.TrimPrefix(text, doing)
	}
	return text
}

func challenge(detail string) error {
	return huma.ErrorWithHeaders(problem(http.StatusUnauthorized, detail), http.Header{"WWW-Authenticate": {`Bearer realm="tasker enrolment"`}})
}
