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

// checkTimeout is how long a part may take to say that it is there.
const checkTimeout = 2 * time.Second

// Health says that the control plane is alive.
type Health struct {
	Status  string `json:"status" doc:"ok"`
	Version string `json:"version" doc:"The version of the control plane."`
}

// Part is one thing that the control plane needs.
type Part struct {
	Ready bool   `json:"ready" doc:"The part is available."`
	Error string `json:"error,omitempty" doc:"Why the part is not available."`
}

// Readiness says which of the parts are there.
type Readiness struct {
	Status string          `json:"status" doc:"ready"`
	Parts  map[string]Part `json:"parts" doc:"The parts that the control plane needs, by name."`
}

// unreadiness is a problem with the parts added to it.
type unreadiness struct {
	huma.ErrorModel
	Parts map[string]Part `json:"parts"`
}

func (a *API) healthRoutes() {
	op := operation("health", "/healthz", "Is it alive?", healthText)
	op.Tags, op.Errors, op.Security = []string{"operation"}, nil, noToken()
	huma.Register(a.huma, op, func(context.Context, *struct{}) (*struct{ Body Health }, error) {
		return &struct{ Body Health }{Health{"ok", a.version}}, nil
	})
	op = operation("readiness", "/readyz", "Is everything there that it needs?", readyText)
	op.Tags, op.Errors, op.Security = []string{"operation"}, []int{http.StatusServiceUnavailable}, noToken()
	huma.Register(a.huma, op, func(ctx context.Context, _ *struct{}) (*struct{ Body Readiness }, error) {
		parts, away := a.ready(ctx)
		if len(away) > 0 {
			detail := fmt.Sprintf("not ready: %s cannot be reached", strings.Join(away, ", "))
			return nil, &unreadiness{*problem(http.StatusServiceUnavailable, detail), parts}
		}
		return &struct{ Body Readiness }{Readiness{"ready", parts}}, nil
	})
}

// ready asks all parts at once and names those that are away. Why is told to
// those only who may know how the control plane is set up.
func (a *API) ready(ctx context.Context) (map[string]Part, []string) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		parts = make(map[string]Part, len(a.checks))
		away  []string
	)
	for name, check := range a.checks {
		wg.Go(func() {
			err := check(ctx)
			mu.Lock()
			defer mu.Unlock()
			parts[name] = Part{Ready: err == nil}
			if err == nil {
				return
			}
			away = append(away, name)
			if auth.CallerFrom(ctx).Role == auth.Admin {
				parts[name] = Part{Error: err.Error()}
			}
		})
	}
	wg.Wait()
	slices.Sort(away)
	return parts, away
}
