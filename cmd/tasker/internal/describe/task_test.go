package describe

import (
	"fmt"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

func TestTaskFacts_many_endpoints(t *testing.T) {
	t.Parallel()
	task := tasker.Task{Rollout: &tasker.Rollout{State: tasker.RolloutPlanned, Waves: []int{100}}}
	for i := range 100 {
		task.Endpoints = append(task.Endpoints, fmt.Sprintf("web-%d", i))
	}
	got := TaskFacts(task)
	for _, want := range []string{"endpoints   web-0 web-1 web-2 web-3 web-4 web-5 … web-99\n", "rollout     planned in 1 wave\n", "waves       100\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}
