package api

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
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
	Task      tasker.Task       `json:"task" doc:"The task."`
	Responses []tasker.Response `json:"responses" doc:"One response for each endpoint, by name."`
	// Controls is what people asked of the task.
	Controls []tasker.Control `json:"controls,omitempty" doc:"What people requested for the task after its creation."`
	// UndoneBy is the id of the task that undoes the last attempt; empty if none does.
	UndoneBy string `json:"undone_by,omitempty" doc:"The id of the task that undoes the last attempt, made by hand or by a rollback; absent if there is none."`
	// Callbacks are the events that were to be told.
	Callbacks []tasker.Delivery `json:"callbacks,omitempty" doc:"The events of the task that are due at its callback, and their delivery."`
}

type listInput struct {
	Status string `query:"status" enum:"pending,sent,running,paused,succeeded,failed,incomplete,cancelled" doc:"Only tasks in this status."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"At most so many tasks."`
	Cursor string `query:"cursor" maxLength:"500" doc:"The next of the page before."`
}

// TaskList is one page of tasks.
type TaskList struct {
	Tasks []tasker.Task `json:"tasks" doc:"The tasks, newest first."`
	Next  string        `json:"next" doc:"The cursor of the next page; empty on the last page."`
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
	plan := r.operation(http.MethodPost, "/plan", "plan", "Plan a task", planText)
	plan.MaxBodyBytes, plan.BodyReadTimeout, plan.SkipValidateBody, plan.Middlewares = op.MaxBodyBytes, op.BodyReadTimeout, true, op.Middlewares
	plan.Errors, plan.RequestBody = append(plan.Errors, op.Errors...), op.RequestBody
	huma.Register(a.huma, plan, r.plan)
	if err := r.describeCreate(op); err != nil { // and the body of both
		return err
	}

	huma.Register(a.huma, r.operation(http.MethodGet, "", "list", "List tasks", listText), r.list)
	op = r.operation(http.MethodGet, "/{ref}", "get", "Get a task and its responses", getText)
	op.Responses = map[string]*huma.Response{}
	huma.Register(a.huma, op, r.get)
	op.Responses["200"].Content["application/json"].Example = exampleAnswer(t.Name)

	for _, c := range []struct {
		name, summary, text string
		status              int
		change              change
	}{
		{"cancel", "Cancel a task", cancelText, http.StatusAccepted, r.store.CancelTask},
		{"retry", "Retry where it did not succeed", retryText, http.StatusAccepted, r.store.RetryTask},
		{"pause", "Pause a rollout", pauseText, http.StatusAccepted, r.store.PauseTask},
		{"resume", "Resume a rollout", resumeText, http.StatusAccepted, r.store.ResumeTask},
		{"undo", "Undo a task", undoText, http.StatusCreated, r.undo},
	} {
		op = r.operation(http.MethodPost, "/{ref}/"+c.name, c.name, c.summary, c.text)
		op.DefaultStatus, op.Middlewares = c.status, huma.Middlewares{a.noBody}
		if c.name != "cancel" {
			op.Errors = append(op.Errors, http.StatusConflict)
		}
		huma.Register(a.huma, op, func(ctx context.Context, in *refInput) (*taskOutput, error) { return r.change(ctx, in.Ref, c.change) })
	}

	r.eventRoute()
	r.outputRoute()
	return nil
}

func (r taskRoutes) create(ctx context.Context, in *createInput) (*createOutput, error) {
	seen(ctx).taskType = r.Name
	n, selector, err := r.parse(r.Type, in.RawBody)
	if err == nil && (selector != nil || n.Rollout != nil) {
		var same *createOutput
		if same, err = r.again(ctx, n); same != nil {
			return same, nil
		}
		if err == nil {
			err = r.resolve(ctx, &n, selector)
		}
	}
	if err != nil {
		return nil, err
	}
	task, created, err := r.store.CreateTask(ctx, n)
	if err != nil {
		return nil, r.failure(ctx, err, "")
	}
	seen(ctx).task = task.ID
	out := &createOutput{Status: http.StatusOK, Location: r.path(task), Body: task}
	if created {
		out.Status = http.StatusCreated
		r.metrics.created.WithLabelValues(r.Name).Inc()
	}
	return out, nil
}

// again answers a request whose task is stored already: what it selects now may be
// something else.
func (r taskRoutes) again(ctx context.Context, n store.NewTask) (*createOutput, error) {
	task, err := r.store.SameTask(ctx, n)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil //nolint:nilnil // it is new
	case err != nil:
		return nil, r.failure(ctx, err, "")
	}
	seen(ctx).task = task.ID
	return &createOutput{Status: http.StatusOK, Location: r.path(task), Body: task}, nil
}

func (r taskRoutes) path(t tasker.Task) string { return "/" + r.Name + "/" + url.PathEscape(t.ID) }

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
	answer := withResponses(task, responses)
	answer.Controls, err = r.store.Controls(ctx, task.ID)
	if err == nil {
		answer.UndoneBy, err = r.store.UndoneBy(ctx, task.ID)
	}
	if err == nil && task.Callback != nil {
		answer.Callbacks, err = r.store.Deliveries(ctx, task.ID)
	}
	if err != nil {
		return nil, r.failure(ctx, err, "")
	}
	return &struct{ Body TaskAndResponses }{answer}, nil
}

// change is what a person can ask of a task that is stored.
type change = func(ctx context.Context, taskType, ref, by string) (tasker.Task, error)

func (r taskRoutes) change(ctx context.Context, ref string, f change) (*taskOutput, error) {
	if err := r.look(ctx, ref); err != nil {
		return nil, err
	}
	task, err := f(ctx, r.Name, ref, auth.CallerFrom(ctx).Name)
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
	return TaskAndResponses{Task: task, Responses: responses}
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
