package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// retryAfter is how many seconds a caller should wait while the database is away.
const retryAfter = "5"

// problem makes an RFC 9457 problem.
func problem(status int, detail string, errs ...*huma.ErrorDetail) *huma.ErrorModel {
	return &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail, Errors: errs}
}

func writeProblem(w http.ResponseWriter, p *huma.ErrorModel) {
	writeJSON(w, p.Status, "application/problem+json", p)
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the caller is gone, or v is a programming error that tests find
}

func deny(w http.ResponseWriter, err error) {
	denied := &auth.DeniedError{Status: http.StatusForbidden, Detail: err.Error()}
	errors.As(err, &denied)
	if denied.Challenge != "" {
		w.Header().Set("WWW-Authenticate", denied.Challenge)
	}
	if denied.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	writeProblem(w, problem(denied.Status, denied.Detail))
}

// failure turns an error of the store into a problem. What a caller cannot do
// anything about is logged, and not told.
func (a *API) failure(ctx context.Context, err error, notFound string) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return problem(http.StatusNotFound, notFound)
	case errors.Is(err, store.ErrConflict):
		return problem(http.StatusConflict,
			"the identifier is taken by a task that was asked for differently, with another payload, endpoints, rollout or other options; choose another identifier, or send the very same request to get that task",
			&huma.ErrorDetail{Location: "body.identifier", Message: "is taken by a different task"})
	case errors.Is(err, store.ErrCursor):
		return problem(http.StatusUnprocessableEntity, "query.cursor is not the next of any page",
			&huma.ErrorDetail{Location: "query.cursor", Message: "is not the next of any page"})
	case errors.Is(err, store.ErrOpen):
		return problem(http.StatusConflict, "the last attempt has not ended; wait for it or cancel it first")
	case errors.Is(err, store.ErrNoRollout):
		return problem(http.StatusConflict, "the task is no rollout, so there are no waves between which it could be paused; cancel ends it")
	case errors.Is(err, store.ErrOver), errors.Is(err, store.ErrNotPaused), errors.Is(err, store.ErrNothingToUndo), errors.Is(err, store.ErrUndoing), errors.Is(err, errCannotUndo):
		return problem(http.StatusConflict, err.Error())
	case errors.Is(err, store.ErrNothingToRetry):
		return problem(http.StatusConflict, "there is nothing to retry: every endpoint succeeded")
	case ctx.Err() != nil:
		return problem(http.StatusServiceUnavailable, "the request was given up")
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrSchema):
		a.log.WarnContext(ctx, "store cannot serve a request", "route", seen(ctx).route, "error", err)
		return huma.ErrorWithHeaders(
			problem(http.StatusServiceUnavailable, "the database cannot be used now; nothing was changed, try again"),
			http.Header{"Retry-After": {retryAfter}})
	default:
		a.log.ErrorContext(ctx, "request failed", "route", seen(ctx).route, "error", err)
		return problem(http.StatusInternalServerError, "the control plane failed; its log says why")
	}
}

// plainQuery refuses query strings that can be read in more than one way.
func (a *API) plainQuery(ctx huma.Context, next func(huma.Context)) {
	u := ctx.URL()
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		_ = huma.WriteErr(a.huma, ctx, http.StatusBadRequest, "the query string cannot be read: "+err.Error())
		return
	}
	for name, values := range query {
		if len(values) > 1 {
			_ = huma.WriteErr(a.huma, ctx, http.StatusUnprocessableEntity, "validation failed", &huma.ErrorDetail{
				Location: "query." + cut(name), Message: fmt.Sprintf("is given %d times", len(values)),
			})
			return
		}
	}
	next(ctx)
}
