package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker/controlplane/auth"
)

// checkTimeout bounds the readiness checks.
const checkTimeout = 2 * time.Second

// healthResource reports whether the control plane runs and is ready.
type healthResource struct {
	resource
	checks  map[string]func(context.Context) error
	version string
}

// Health reports that the control plane runs.
type Health struct {
	Status  string `json:"status" doc:"ok"`
	Version string `json:"version" doc:"The version of the control plane."`
}

// Part is the readiness of one part that the control plane needs.
type Part struct {
	Ready bool   `json:"ready" doc:"The part is available."`
	Error string `json:"error,omitempty" doc:"Why the part is not available."`
}

// Readiness reports that all parts are available.
type Readiness struct {
	Status string          `json:"status" doc:"ready"`
	Parts  map[string]Part `json:"parts" doc:"The parts that the control plane needs, by name."`
}

// notReadyProblem is a problem that lists the parts.
type notReadyProblem struct {
	huma.ErrorModel
	Parts map[string]Part `json:"parts"`
}

func (r healthResource) register() {
	op := operation(operationTag, "health", "/healthz", "Check that the control plane runs", "Answers while the program runs. It needs no token.")
	op.Errors, op.Security = nil, noSecurity()
	huma.Register(r.huma, op, func(context.Context, *struct{}) (*bodyOutput[Health], error) {
		return &bodyOutput[Health]{Health{"ok", r.version}}, nil
	})
	op = operation(operationTag, "readiness", "/readyz", "Check that the control plane is ready",
		"200 if the database and the transport are available, otherwise 503 with the parts that are not. It needs no token; only callers with the admin token see the reasons.")
	op.Errors, op.Security = []int{http.StatusServiceUnavailable}, noSecurity()
	huma.Register(r.huma, op, func(ctx context.Context, _ *struct{}) (*bodyOutput[Readiness], error) {
		parts, unavailable := r.check(ctx)
		if len(unavailable) > 0 {
			detail := fmt.Sprintf("not ready: %s unavailable", strings.Join(unavailable, ", "))
			return nil, &notReadyProblem{*newProblem(http.StatusServiceUnavailable, detail), parts}
		}
		return &bodyOutput[Readiness]{Readiness{"ready", parts}}, nil
	})
}

// check checks all parts concurrently, and also returns the names of the unavailable
// ones. Only an admin sees the reasons, because they may contain internal addresses.
func (r healthResource) check(ctx context.Context) (parts map[string]Part, unavailable []string) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	parts = make(map[string]Part, len(r.checks))
	for name, check := range r.checks {
		wg.Go(func() {
			err := check(ctx)
			mu.Lock()
			defer mu.Unlock()
			parts[name] = Part{Ready: err == nil}
			if err == nil {
				return
			}
			unavailable = append(unavailable, name)
			if auth.CallerFrom(ctx).Role == auth.Admin {
				parts[name] = Part{Error: err.Error()}
			}
		})
	}
	wg.Wait()
	slices.Sort(unavailable)
	return parts, unavailable
}
