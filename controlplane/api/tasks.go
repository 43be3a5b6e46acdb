package api

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// taskResource has the operations on the tasks of one type.
type taskResource struct {
	typeResource
	opts    *Options
	created prometheus.Counter
}

type createInput struct {
	RawBody []byte `contentType:"application/json"`
}

type createOutput struct {
	Status   int
	Location string `header:"Location" doc:"The URL of the task, relative to the URL of the request."`
	Body     tasker.Task
}

type refInput struct {
	Ref string `path:"ref" doc:"The task's id, or its identifier, percent-encoded." example:"e7bd91d0-16ad-11e2-892e-0800200c9a66"`
}

// TaskAndResponses is a task with the responses of its endpoints.
type TaskAndResponses struct {
	Task      tasker.Task       `json:"task" doc:"The task."`
	Responses []tasker.Response `json:"responses" doc:"One response for each endpoint, by name."`
	Controls  []tasker.Control  `json:"controls,omitempty" doc:"The requests to cancel, retry, pause, resume or undo the task."`
	UndoneBy  string            `json:"undone_by,omitempty" doc:"The id of the task that undoes the last attempt, made by hand or by a rollback; absent if there is none."`
	Callbacks []tasker.Delivery `json:"callbacks,omitempty" doc:"The events of the task that are due at its callback, and their delivery."`
}

type listInput struct {
	Status string `query:"status" enum:"pending,sent,running,paused,succeeded,failed,incomplete,cancelled" doc:"List only tasks with this status."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"The maximum number of tasks."`
	Cursor string `query:"cursor" maxLength:"500" doc:"The value of next from the previous page."`
}

// TaskList is one page of tasks.
type TaskList struct {
	Tasks []tasker.Task `json:"tasks" doc:"The tasks, newest first."`
	Next  string        `json:"next" doc:"The cursor of the next page; empty on the last page."`
}

func (r taskResource) register() error {
	if err := tasker.ValidateTaskType(r.taskType.Name); err != nil {
		return fmt.Errorf("api: %w", err)
	}
	if err := r.registerCreate(); err != nil {
		return err
	}
	huma.Register(r.huma, r.operation(http.MethodGet, "", "list", "List tasks",
		"Newest first. `next` is the `cursor` of the next page; it is empty on the last page."), r.list)

	op := r.operation(http.MethodGet, "/{ref}", "get", "Get a task and its responses",
		"The task, and for each endpoint its status and, if the endpoint has not succeeded, the reason.")
	op.Responses = map[string]*huma.Response{}
	huma.Register(r.huma, op, r.get)
	op.Responses["200"].Content["application/json"].Example = exampleResponses(r.taskType.Name)

	r.registerControl("cancel", "Cancel a task",
		"A response that was not sent yet ends at once. A running response is `cancelled` when the endpoint has ended all of its processes. "+
			"A rollout that waits to be rolled back, and of which something still runs, is not rolled back; its reason explains this. Cancelling a finished task changes nothing.",
		r.store.CancelTask)
	r.registerControl("retry", "Retry where the task did not succeed",
		"Starts a new attempt on each endpoint that did not succeed, or on all endpoints if the task was undone. A rollout forms new waves of these endpoints. 409 while an attempt is open, or if every endpoint succeeded.",
		r.store.RetryTask)
	r.registerControl("pause", "Pause a rollout",
		"The rollout begins no further wave until it is resumed; running endpoints continue. Pausing a paused rollout changes nothing. 409 if the task has no rollout, or its rollout has ended.",
		r.store.PauseTask)
	r.registerControl("resume", "Resume a rollout",
		"The rollout continues where it was paused, and failures so far no longer count against the failure budget. 409 if it is not paused.",
		r.store.ResumeTask)
	r.registerControl("undo", "Undo a task",
		"Creates a task that restores the state before this task, on the endpoints where this task was started, and returns it. "+
			"The undone task names it in `undone_by`. Repeating the call returns the same task. 409 while the task has not ended, if it was started nowhere, or if its handler cannot undo it.",
		r.undo)
	return nil
}

// registerCreate registers the two operations that take a request for a task: create
// stores the task, plan only shows its waves.
func (r taskResource) registerCreate() error {
	create := r.operation(http.MethodPost, "", "create", "Create a task",
		"Stores the task for its endpoints and answers at once; read the task to follow its progress.\n\n"+
			"A request with the `identifier` of an existing task creates nothing: the same request answers 200 with the stored task, a different one 409. "+
			"After a lost answer, repeat the request.")
	create.DefaultStatus, create.MaxBodyBytes, create.BodyReadTimeout = http.StatusCreated, maxBody, 30*time.Second
	create.SkipValidateBody, create.Middlewares = true, huma.Middlewares{r.requireJSON} // the parser has better messages
	create.Errors = append(create.Errors, http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	create.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
	create.Responses = map[string]*huma.Response{}
	huma.Register(r.huma, create, r.create)

	plan := r.operation(http.MethodPost, "/plan", "plan", "Plan a task",
		"Validates a request as the creation of the task does, and returns the endpoints of each wave. Nothing is stored or sent. "+
			"409 if a different task has the same `identifier`.")
	plan.MaxBodyBytes, plan.BodyReadTimeout, plan.SkipValidateBody, plan.Middlewares = create.MaxBodyBytes, create.BodyReadTimeout, true, create.Middlewares
	plan.Errors, plan.RequestBody = append(plan.Errors, create.Errors...), create.RequestBody
	huma.Register(r.huma, plan, r.plan)
	return r.documentCreate(create)
}

func (r taskResource) create(ctx context.Context, in *createInput) (*createOutput, error) {
	recordOf(ctx).taskType = r.taskType.Name
	request, err := parseTask(r.opts, r.taskType, in.RawBody)
	if err != nil {
		return nil, err
	}
	if request.mustResolve() {
		// The selection of a stored task stays, although it may be different now.
		task, err := r.store.SameTask(ctx, request.task)
		if err == nil {
			return r.createOutput(ctx, task, http.StatusOK), nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, r.problem(ctx, err, "")
		}
		if err := r.resolveEndpoints(ctx, &request); err != nil {
			return nil, err
		}
	}
	task, created, err := r.opts.Creator.CreateTask(ctx, request.task)
	switch {
	case err != nil:
		return nil, r.problem(ctx, err, "")
	case created:
		r.created.Inc()
		return r.createOutput(ctx, task, http.StatusCreated), nil
	default:
		return r.createOutput(ctx, task, http.StatusOK), nil
	}
}

// resolveEndpoints adds the matched endpoints to the named ones, and sorts all in the
// order of the rollout.
func (r taskResource) resolveEndpoints(ctx context.Context, request *taskRequest) error {
	s, task := request.selection(), &request.task
	if s.needsEndpoints() {
		matched, err := r.store.Select(ctx, s.matches)
		if err != nil {
			return r.problem(ctx, err, "")
		}
		task.Endpoints = s.withMatched(matched)
	}
	if err := s.checkSize(task.Endpoints); err != nil {
		return err
	}
	if task.Rollout != nil {
		task.Rollout.Order.Arrange(task.Endpoints, rand.Shuffle)
	}
	return nil
}

func (r taskResource) createOutput(ctx context.Context, task tasker.Task, status int) *createOutput {
	recordOf(ctx).task = task.ID
	location := r.taskType.Name + "/" + url.PathEscape(task.ID) // relative, for a reverse proxy with a path of its own
	return &createOutput{Status: status, Location: location, Body: task}
}

func (r taskResource) list(ctx context.Context, in *listInput) (*bodyOutput[TaskList], error) {
	page, err := r.store.Tasks(ctx, store.TaskQuery{
		Type: r.taskType.Name, Status: tasker.TaskStatus(in.Status), Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, r.problem(ctx, err, "")
	}
	if page.Tasks == nil {
		page.Tasks = []tasker.Task{}
	}
	return &bodyOutput[TaskList]{TaskList{page.Tasks, page.Next}}, nil
}

func (r taskResource) get(ctx context.Context, in *refInput) (*bodyOutput[TaskAndResponses], error) {
	if err := r.checkRef(ctx, in.Ref); err != nil {
		return nil, err
	}
	task, responses, err := r.store.TaskWithResponses(ctx, r.taskType.Name, in.Ref)
	if err != nil {
		return nil, r.problem(ctx, err, r.notFound(in.Ref))
	}
	recordOf(ctx).task = task.ID
	answer := withResponses(task, responses)
	answer.Controls, err = r.store.Controls(ctx, task.ID)
	if err == nil {
		answer.UndoneBy, err = r.store.UndoneBy(ctx, task.ID)
	}
	if err == nil && task.Callback != nil {
		answer.Callbacks, err = r.store.Deliveries(ctx, task.ID)
	}
	if err != nil {
		return nil, r.problem(ctx, err, "")
	}
	return &bodyOutput[TaskAndResponses]{answer}, nil
}

func withResponses(task tasker.Task, responses []tasker.Response) TaskAndResponses {
	if responses == nil {
		responses = []tasker.Response{}
	}
	return TaskAndResponses{Task: task, Responses: responses}
}

// controlFunc changes a stored task; by is the name of the caller.
type controlFunc = func(ctx context.Context, taskType, ref, by string) (tasker.Task, error)

func (r taskResource) registerControl(name, summary, description string, control controlFunc) {
	op := r.operation(http.MethodPost, "/{ref}/"+name, name, summary, description)
	op.DefaultStatus, op.Middlewares = http.StatusAccepted, huma.Middlewares{r.rejectBody}
	if name == "undo" {
		op.DefaultStatus = http.StatusCreated
	}
	if name != "cancel" {
		op.Errors = append(op.Errors, http.StatusConflict)
	}
	huma.Register(r.huma, op, func(ctx context.Context, in *refInput) (*bodyOutput[tasker.Task], error) {
		if err := r.checkRef(ctx, in.Ref); err != nil {
			return nil, err
		}
		task, err := control(ctx, r.taskType.Name, in.Ref, auth.CallerFrom(ctx).Name)
		if err != nil {
			return nil, r.problem(ctx, err, r.notFound(in.Ref))
		}
		recordOf(ctx).task = task.ID
		return &bodyOutput[tasker.Task]{task}, nil
	})
}

// undo creates the task that undoes a task.
func (r taskResource) undo(ctx context.Context, taskType, ref, by string) (tasker.Task, error) {
	task, err := r.store.Task(ctx, taskType, ref)
	if err != nil {
		return tasker.Task{}, err
	}
	if reason := r.taskType.cannotUndoReason(task.Payload); reason != "" {
		return tasker.Task{}, fmt.Errorf("%w: %s", errCannotUndo, reason)
	}
	return r.store.UndoTask(ctx, taskType, ref, by)
}
