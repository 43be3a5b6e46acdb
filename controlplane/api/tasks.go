package api

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api/access"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// taskRoutes are the operations on the tasks of one type.
type taskRoutes struct {
	*API
	Type
}

type createInput struct {
	RawBody []byte `contentType:"application/json"`
}

type createOutput struct {
	Status   int
	Location string `header:"Location" doc:"The path of the task."`
	Body     tasker.Task
}

type refInput struct {
	Ref string `path:"ref" doc:"The task's id, or its identifier, percent-encoded." example:"e7bd91d0-16ad-11e2-892e-0800200c9a66"`
}

type taskOutput struct{ Body tasker.Task }

// TaskAndResponses is a task with what became of it on each endpoint.
type TaskAndResponses struct {
	Task      tasker.Task       `json:"task"`
	Responses []tasker.Response `json:"responses"`
}

type listInput struct {
	Status string `query:"status" enum:"pending,sent,running,paused,succeeded,failed,incomplete,cancelled" doc:"Only tasks in this status."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"At most so many tasks."`
	Cursor string `query:"cursor" maxLength:"500" doc:"The next of the page before."`
}

// TaskList is one page of tasks.
type TaskList struct {
	Tasks []tasker.Task `json:"tasks"`
	Next  string        `json:"next"`
}

// taskType registers the operations of one type.
func (a *API) taskType(t Type) error {
	if err := tasker.ValidateTaskType(t.Name); err != nil {
		return fmt.Errorf("api: %w", err)
	}
	r := taskRoutes{a, t}
	op := r.operation(http.MethodPost, "", "create", "Create a task", createText)
	op.DefaultStatus, op.MaxBodyBytes, op.BodyReadTimeout = http.StatusCreated, maxBody, 30*time.Second
	op.SkipValidateBody, op.Middlewares = true, huma.Middlewares{a.onlyJSON} // parse has better words
	op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
	op.Responses = map[string]*huma.Response{}
	huma.Register(a.huma, op, r.create)
	if err := r.describeCreate(op); err != nil {
		return err
	}

	huma.Register(a.huma, r.operation(http.MethodGet, "", "list", "List tasks", listText), r.list)
	op = r.operation(http.MethodGet, "/{ref}", "get", "Get a task and its responses", getText)
	op.Responses = map[string]*huma.Response{}
	huma.Register(a.huma, op, r.get)
	op.Responses["200"].Content["application/json"].Example = exampleAnswer(t.Name)

	op = r.operation(http.MethodPost, "/{ref}/cancel", "cancel", "Cancel a task", cancelText)
	op.DefaultStatus, op.Middlewares = http.StatusAccepted, huma.Middlewares{a.noBody}
	huma.Register(a.huma, op, r.cancel)

	op = r.operation(http.MethodPost, "/{ref}/retry", "retry", "Retry where it did not succeed", retryText)
	op.DefaultStatus, op.Middlewares = http.StatusAccepted, huma.Middlewares{a.noBody}
	op.Errors = append(op.Errors, http.StatusConflict)
	huma.Register(a.huma, op, r.retry)

	r.eventRoute()
	r.outputRoute()
	return nil
}

func (r taskRoutes) create(ctx context.Context, in *createInput) (*createOutput, error) {
	seen(ctx).taskType = r.Name
	n, err := r.parse(r.Type, in.RawBody)
	if err != nil {
		return nil, err
	}
	task, created, err := r.store.CreateTask(ctx, n)
	if err != nil {
		return nil, r.failure(ctx, err, "")
	}
	seen(ctx).task = task.ID
	out := &createOutput{Status: http.StatusOK, Location: "/" + r.Name + "/" + url.PathEscape(task.ID), Body: task}
	if created {
		out.Status = http.StatusCreated
		r.metrics.created.WithLabelValues(r.Name).Inc()
	}
	return out, nil
}

func (r taskRoutes) list(ctx context.Context, in *listInput) (*struct{ Body TaskList }, error) {
	page, err := r.store.Tasks(ctx, store.TaskQuery{
		Type: r.Name, Status: tasker.TaskStatus(in.Status), Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, r.failure(ctx, err, "")
	}
	if page.Tasks == nil {
		page.Tasks = []tasker.Task{}
	}
	return &struct{ Body TaskList }{TaskList{page.Tasks, page.Next}}, nil
}

func (r taskRoutes) get(ctx context.Context, in *refInput) (*struct{ Body TaskAndResponses }, error) {
	if err := r.look(ctx, in.Ref); err != nil {
		return nil, err
	}
	task, responses, err := r.store.TaskWithResponses(ctx, r.Name, in.Ref)
	if err != nil {
		return nil, r.failure(ctx, err, r.absent(in.Ref))
	}
	seen(ctx).task = task.ID
	return &struct{ Body TaskAndResponses }{withResponses(task, responses)}, nil
}

func (r taskRoutes) cancel(ctx context.Context, in *refInput) (*taskOutput, error) {
	return r.change(ctx, in.Ref, r.store.CancelTask)
}

func (r taskRoutes) retry(ctx context.Context, in *refInput) (*taskOutput, error) {
	return r.change(ctx, in.Ref, r.store.RetryTask)
}

func (r taskRoutes) change(ctx context.Context, ref string, f func(ctx context.Context, taskType, ref, by string) (tasker.Task, error)) (*taskOutput, error) {
	if err := r.look(ctx, ref); err != nil {
		return nil, err
	}
	task, err := f(ctx, r.Name, ref, access.From(ctx).Name)
	if err != nil {
		return nil, r.failure(ctx, err, r.absent(ref))
	}
	seen(ctx).task = task.ID
	return &taskOutput{task}, nil
}

// look notes what a request is about, and refuses a reference that no task can
// have.
func (r taskRoutes) look(ctx context.Context, ref string) error {
	seen(ctx).taskType = r.Name
	if tasker.ValidateIdentifier(ref) != nil {
		return problem(http.StatusNotFound, r.absent(ref))
	}
	return nil
}

func (r taskRoutes) absent(ref string) string {
	return fmt.Sprintf("there is no task of type %s with the id or identifier %s", r.Name, strconv.Quote(cut(ref)))
}

func withResponses(task tasker.Task, responses []tasker.Response) TaskAndResponses {
	if responses == nil {
		responses = []tasker.Response{}
	}
	return TaskAndResponses{task, responses}
}

// onlyJSON refuses other content types, a missing one too: a page of another
// site can send those without asking the browser's leave.
func (a *API) onlyJSON(ctx huma.Context, next func(huma.Context)) {
	given := ctx.Header("Content-Type")
	media, params, err := mime.ParseMediaType(given)
	charset := params["charset"]
	switch {
	case given == "":
		given = "missing"
	case err != nil, media != "application/json":
		given = strconv.Quote(cut(given))
	case charset != "" && !strings.EqualFold(charset, "utf-8"):
		given = "in " + strconv.Quote(cut(charset))
	default:
		next(ctx)
		return
	}
	_ = huma.WriteErr(a.huma, ctx, http.StatusUnsupportedMediaType, "the content type must be application/json, in UTF-8",
		&huma.ErrorDetail{Location: "header.Content-Type", Message: "is " + given})
}

// noBody refuses a body where none is looked at: whoever sends one believes
// that it does something.
func (a *API) noBody(ctx huma.Context, next func(huma.Context)) {
	const enough = 16
	b := make([]byte, enough)
	n := 0
	for n < enough {
		k, err := ctx.BodyReader().Read(b[n:])
		n += k
		if err != nil {
			break
		}
	}
	if body := strings.TrimSpace(string(b[:n])); body != "" && body != "{}" {
		_ = huma.WriteErr(a.huma, ctx, http.StatusUnprocessableEntity, "this call takes no body",
			&huma.ErrorDetail{Location: "body", Message: "must be empty"})
		return
	}
	next(ctx)
}
