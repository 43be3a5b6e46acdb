package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/watch"
)

// TaskType is a configured task type.
type TaskType struct {
	Name string
	// Handler is the name of the handler that performs the tasks on the agents.
	Handler string
	// Labels and Selector are the labels that select the endpoints of a task with neither
	// endpoints nor labels, as text and parsed. Without them, such a task is for every
	// endpoint that serves the type.
	Labels   string
	Selector tasker.Selector
	// Summary describes the type in one sentence.
	Summary string
	// Schema is the JSON Schema of the payload in the documentation; nil accepts any
	// payload.
	Schema json.RawMessage
	// Validate checks a payload; nil accepts any payload.
	Validate func(payload json.RawMessage) error
	// Timeout bounds the execution. A task can only lower it. Zero means no bound.
	Timeout time.Duration
	// CanUndo is false if the handler is known to be unable to undo a task.
	CanUndo bool
	// UndoRequires is the payload field that the handler needs to undo a task, if any.
	UndoRequires string
}

// errCannotUndo means that every agent would reject the undo of the task.
var errCannotUndo = errors.New("the task cannot be undone")

// cannotUndoReason returns why a task with this payload cannot be undone. It is empty if
// the task can be undone, or if only the agents can decide. The schema, not this method,
// rejects a payload that is not an object.
func (t TaskType) cannotUndoReason(payload []byte) string {
	if !t.CanUndo {
		return fmt.Sprintf("the handler %s cannot undo", t.Handler)
	}
	var fields map[string]json.RawMessage
	if t.UndoRequires == "" || json.Unmarshal(payload, &fields) != nil {
		return ""
	}
	if _, found := fields[t.UndoRequires]; found {
		return ""
	}
	return fmt.Sprintf("the payload has no %s, without which the handler %s cannot undo", t.UndoRequires, t.Handler)
}

// Options configure an API. All are mandatory unless their comment says otherwise.
type Options struct {
	Store *store.Store
	// Creator stores new tasks. The default is Store.
	Creator TaskCreator
	Types   []TaskType
	// Watch wakes event streams.
	Watch      *watch.Fanout
	Authorizer *auth.Authorizer
	Enroller   *auth.Enroller
	// CertificateFingerprint identifies the server's self-signed certificate and is
	// appended to enrolment tokens; it may be empty.
	CertificateFingerprint string
	// Agents serves the paths below /agent/; nil if agents do not connect by HTTP.
	Agents http.Handler
	// Checks are the readiness checks by the name of their part; they may be empty.
	Checks map[string]func(context.Context) error
	// PromQL permits rollout gates with a Prometheus query.
	PromQL bool
	// CheckCallback returns an error if the URL of a callback is not permitted. The
	// error completes a sentence that begins with the field's name.
	CheckCallback func(url string) error
	// CheckGate does the same for the URL of a rollout gate.
	CheckGate func(url string) error
	// ReceiveTimeout applies to tasks that set none.
	ReceiveTimeout time.Duration
	Version        string
	Log            *slog.Logger
	Registerer     prometheus.Registerer
	// Gatherer provides the metrics at /metrics.
	Gatherer prometheus.Gatherer
}

// TaskCreator stores a new task, as store.Store does, and may send its orders.
type TaskCreator interface {
	CreateTask(ctx context.Context, t store.NewTask) (task tasker.Task, created bool, err error)
}

func (o Options) validate() error {
	missing := o.Store == nil || o.Watch == nil || o.Authorizer == nil || o.Enroller == nil
	missing = missing || o.Log == nil || o.Registerer == nil || o.Gatherer == nil
	missing = missing || o.CheckCallback == nil || o.CheckGate == nil || len(o.Types) == 0 || o.ReceiveTimeout <= 0
	if missing {
		return errors.New("api: a mandatory option is missing")
	}
	return nil
}
