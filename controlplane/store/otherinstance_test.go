package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// as returns reports as if another agent of the same endpoint had sent them.
func as(instance string, reports ...tasker.Report) []tasker.Report {
	out := slices.Clone(reports)
	for i := range out {
		out[i].Instance = instance
	}
	return out
}

// The holder of a shared credential can neither report for a live agent nor mark it as
// disconnected nor change its presence.
func TestReportsOfAnotherInstanceThanTheLiveOneAreRefused(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.apply(t, hello("lb-1", "s"))
		task := f.create(t, request("a", "lb-1"))
		f.send(t, 1)
		want := func(step string) {
			t.Helper()
			e, err := f.Endpoint(t.Context(), "lb-1")
			must(t, err)
			if !e.Connected || e.Instance != "i" || !slices.Equal(e.Handlers, hello("lb-1", "s").Hello.Handlers) {
				t.Errorf("%s: the endpoint is %+v", step, e)
			}
		}
		forged := hello("lb-1", "other")
		forged.Hello.Handlers = []string{"command"}
		for _, instance := range []string{"other", ""} {
			for name, r := range map[string]tasker.Report{
				"update": update("lb-1", task.ID, 1, 9, tasker.Succeeded), "goodbye": goodbye("lb-1"), "hello": forged, "heartbeat": heartbeat("lb-1"),
			} {
				applied, err := f.Apply(t.Context(), as(instance, r))
				must(t, err)
				if !slices.Equal(applied.Refused, []string{"lb-1"}) || len(applied.Orders) > 0 || len(applied.Reported) > 0 || len(applied.Updates) > 0 {
					t.Errorf("%s of instance %q: %+v", name, instance, applied)
				}
				want(name)
			}
		}
		f.want(t, task.ID, "sent", "lb-1", "sent")
		// In one batch, the reports before and after a forged one count.
		applied, err := f.Apply(t.Context(), slices.Concat(
			[]tasker.Report{update("lb-1", task.ID, 1, 1, tasker.Received)}, as("other", goodbye("lb-1"), update("lb-1", task.ID, 1, 9, tasker.Failed)),
			[]tasker.Report{update("lb-1", task.ID, 1, 2, tasker.Running)}))
		must(t, err)
		if len(applied.Refused) != 2 {
			t.Errorf("refused %v", applied.Refused)
		}
		want("batch")
		f.want(t, task.ID, "running", "lb-1", "running")
	})
}

func TestAnotherInstanceGetsANameThatIsFree(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		steps := map[string]func(){
			"goodbye": func() { f.apply(t, goodbye("lb-1")) },
			"silence": func() { f.Add(time.Minute) },
		}
		for name, step := range steps {
			f.apply(t, as("i", hello("lb-1", name+"1"))...)
			step()
			applied, err := f.Apply(t.Context(), as("new", hello("lb-1", name+"2")))
			must(t, err)
			if len(applied.Refused) > 0 || len(applied.Orders) != 1 {
				t.Errorf("after %s: %+v", name, applied)
			}
			f.apply(t, as("new", goodbye("lb-1"))...)
		}
		// Also within one batch.
		f.apply(t, as("i", hello("lb-1", "s"))...)
		applied, err := f.Apply(t.Context(), slices.Concat(as("i", goodbye("lb-1")), as("new", hello("lb-1", "s3"))))
		must(t, err)
		if len(applied.Refused) > 0 || len(applied.Orders) != 1 {
			t.Errorf("in one batch: %+v", applied)
		}
	})
}

// The secret of an enrolled endpoint proves who reports, also after its journal was lost.
func TestAnotherInstanceOfAnEnrolledEndpointIsAccepted(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.token(t, "t", 1)
		_, err := f.Enrol(t.Context(), digest("t"), "lb-1", digest("s"))
		must(t, err)
		f.apply(t, hello("lb-1", "s"))
		task := f.create(t, request("a", "lb-1"))
		applied, err := f.Apply(t.Context(), as("new", update("lb-1", task.ID, 1, 1, tasker.Running), hello("lb-1", "s2")))
		must(t, err)
		if len(applied.Refused) > 0 || applied.Updates["applied"] != 1 || len(applied.Orders) == 0 {
			t.Errorf("%+v", applied)
		}
	})
}
