package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// resource has the dependencies of every resource.
type resource struct {
	huma  huma.API
	store *store.Store
	log   *slog.Logger
}

// bodyOutput is the output of an operation that answers with a JSON body only.
type bodyOutput[T any] struct{ Body T }

// operation returns an operation outside the task types. GET is the default method.
func operation(tag, id, path, summary, description string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: path, Tags: []string{tag}, Summary: summary, Description: description,
		Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}
}

// problem turns an error of the store into a problem. An error that the caller cannot
// act on is logged, and its text is not sent.
func (r resource) problem(ctx context.Context, err error, notFound string) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return newProblem(http.StatusNotFound, notFound)
	case errors.Is(err, store.ErrConflict):
		return newFieldProblem(http.StatusConflict,
			"another task has this identifier, with a different payload, endpoints, rollout or options; choose another identifier, or repeat the original request to get that task",
			"body.identifier", "is taken by a different task")
	case errors.Is(err, store.ErrCursor):
		const message = "is not the value of next from another page"
		return newFieldProblem(http.StatusUnprocessableEntity, "query.cursor "+message, "query.cursor", message)
	case errors.Is(err, store.ErrUnfinished):
		return newProblem(http.StatusConflict, "the last attempt has not ended; wait for it or cancel it first")
	case errors.Is(err, store.ErrNoRollout):
		return newProblem(http.StatusConflict, "the task has no rollout, so it cannot be paused between waves; use cancel to end it")
	case errors.Is(err, store.ErrNothingToRetry):
		return newProblem(http.StatusConflict, "there is nothing to retry: every endpoint succeeded")
	case errors.Is(err, store.ErrRolloutEnded), errors.Is(err, store.ErrNotPaused), errors.Is(err, store.ErrNothingToUndo), errors.Is(err, store.ErrUndoing), errors.Is(err, errCannotUndo):
		return newProblem(http.StatusConflict, err.Error())
	case ctx.Err() != nil:
		return newProblem(http.StatusServiceUnavailable, "the request was cancelled")
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrSchema):
		r.log.WarnContext(ctx, "store cannot serve a request", "route", recordOf(ctx).route, "error", err)
		return unavailable("the database is unavailable; nothing was changed, try again")
	default:
		r.log.ErrorContext(ctx, "request failed", "route", recordOf(ctx).route, "error", err)
		return internalError()
	}
}

// typeResource has the dependencies of the operations on the tasks of one type.
type typeResource struct {
	resource
	taskType TaskType
}

// operation returns an operation below the path of the task type.
func (r typeResource) operation(method, path, verb, summary, description string) huma.Operation {
	op := huma.Operation{
		OperationID: verb + "-" + r.taskType.Name, Method: method, Path: "/" + r.taskType.Name + path, Tags: []string{r.taskType.Name},
		Summary: summary, Description: fmt.Sprintf("%s\n\nTask type: `%s`.", description, r.taskType.Name),
		Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable},
	}
	if path != "" {
		op.Errors = append(op.Errors, http.StatusNotFound)
	}
	return op
}

// checkRef rejects a reference that no task can have.
func (r typeResource) checkRef(ctx context.Context, ref string) error {
	recordOf(ctx).taskType = r.taskType.Name
	if tasker.ValidateIdentifier(ref) != nil {
		return newProblem(http.StatusNotFound, r.notFound(ref))
	}
	return nil
}

func (r typeResource) notFound(ref string) string {
	return fmt.Sprintf("there is no task of type %s with the id or identifier %s", r.taskType.Name, quote(ref))
}
