package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

func TestSchema(t *testing.T) {
	t.Parallel()
	schema, err := handlers.CompileSchema(Info().Schema)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ payload, want string }{
		{`{"unit":"nginx","verb":"restart"}`, ""},
		{`{"unit":"app@1.service","verb":"enable","now":true,"settle":"1m30s"}`, ""},
		{`{"unit":"dev-disk-by\\x2did.swap","verb":"status"}`, ""},
		{`{"verb":"start"}`, "payload.unit: is missing"},
		{`{"unit":"nginx"}`, "payload.verb: is missing"},
		{`{"unit":"nginx","verb":"kill"}`, "payload.verb: must be one of"},
		{`{"unit":"-H other","verb":"start"}`, "payload.unit: is \"-H other\", which"},
		{`{"unit":"../x","verb":"start"}`, "payload.unit: is \"../x\", which"},
		{`{"unit":"nginx","verb":"start","settle":"-1s"}`, "payload.settle: is \"-1s\", which does not match"},
		{`{"unit":"nginx","verb":"start","force":true}`, "payload.force: is not known"},
	}
	for _, tt := range tests {
		t.Run(tt.payload, func(t *testing.T) {
			t.Parallel()
			err := schema.Validate(json.RawMessage(tt.payload))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAllow(t *testing.T) {
	t.Parallel()
	a := Allow{"nginx", "app@*.service", "*.timer"}
	for unit, want := range map[string]bool{
		"nginx": true, "nginx.service": true, "nginx.socket": false, "app@1": true, "app@1.service": true, "app.service": false, "a.timer": true,
	} {
		if err := a.CheckAllowed(unit); (err == nil) != want {
			t.Errorf("%s: %v, want allowed %v", unit, err, want)
		}
	}
	if err := Allow(nil).CheckAllowed("nginx"); err == nil || !strings.Contains(err.Error(), `add "nginx.service"`) {
		t.Errorf("got %v", err)
	}
	if _, err := New(Options{Allow: Allow{"app-["}}); err == nil || !strings.Contains(err.Error(), "handlers.service.allow[0]") {
		t.Errorf("got %v", err)
	}
}

// caller calls the handler like an agent.
type caller struct {
	t *testing.T
	h handlers.Handler
	n int
}

func newCaller(t *testing.T, allow ...string) *caller {
	t.Helper()
	h, err := New(Options{Allow: allow, Snapshots: snapshot.New(t.TempDir()), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return &caller{t: t, h: h}
}

// call performs a payload and returns the id of the task, to undo it.
func (c *caller) call(ctx context.Context, payload string, edit ...func(*handlers.Call)) (id string, o Outcome, err error) {
	c.t.Helper()
	c.n++
	call := handlers.Call{TaskID: fmt.Sprintf("task-%d", c.n), Attempt: 1, Payload: json.RawMessage(payload), Progress: func(float64, string) {}}
	for _, e := range edit {
		e(&call)
	}
	r, err := c.h.Handle(ctx, call)
	if r.Value != nil {
		o = r.Value.(Outcome) //nolint:errcheck,forcetypeassert // a test
	}
	return call.TaskID, o, err
}

func dryRun(c *handlers.Call) { c.Action = tasker.DryRun }

func undo(id string) func(*handlers.Call) {
	return func(c *handlers.Call) { c.Action, c.Undoes = tasker.Undo, id }
}

func TestVerbsAreIdempotentAndUndone(t *testing.T) {
	t.Parallel()
	writeUnits(t, map[string]string{"tv-app.service": shell("exec sleep 86416", "ExecReload=/bin/true")})
	c := newCaller(t, "tv-*")
	type state struct{ active, enabled string }
	fresh, running := state{"inactive", "disabled"}, state{"active", "disabled"}
	steps := []struct {
		payload  string
		from, to state
		repeats  bool // changes something each time
		undoable bool // an undo restores from
	}{
		{`"verb":"start"`, fresh, running, false, true},
		{`"verb":"enable","now":true`, fresh, state{"active", "enabled"}, false, true},
		{`"verb":"restart"`, fresh, running, true, true},
		{`"verb":"start"`, fresh, running, false, false},
		{`"verb":"restart"`, running, running, true, true},
		{`"verb":"reload"`, running, running, true, true},
		{`"verb":"enable"`, running, state{"active", "enabled"}, false, false},
		{`"verb":"status"`, state{"active", "enabled"}, state{"active", "enabled"}, false, true},
		{`"verb":"stop"`, state{"active", "enabled"}, state{"inactive", "enabled"}, false, true},
		{`"verb":"disable","now":true`, state{"active", "enabled"}, fresh, false, true},
		{`"verb":"disable"`, state{"active", "enabled"}, running, false, false},
	}
	for _, s := range steps {
		payload := `{"unit":"tv-app","settle":"200ms",` + s.payload + `}`
		want := func(name string, o Outcome, err error, changed bool, from, to state) {
			t.Helper()
			got := [2]state{{o.From.Active, o.From.Enabled}, {o.To.Active, o.To.Enabled}}
			if err != nil || o.Unit != "tv-app.service" || o.Changed != changed || got != [2]state{from, to} {
				t.Errorf("%s of %s: %+v, %v; want changed %v, from %v to %v", name, s.payload, o, err, changed, from, to)
			}
		}
		changes := s.repeats || s.from != s.to
		_, o, err := c.call(t.Context(), payload, dryRun)
		want("dry run", o, err, changes, s.from, s.to)
		if !o.DryRun {
			t.Errorf("the outcome of the dry run is %+v", o)
		}
		id, o, err := c.call(t.Context(), payload)
		want("first call", o, err, changes, s.from, s.to)
		second, o, err := c.call(t.Context(), payload)
		want("second call", o, err, s.repeats, s.to, s.to)
		if !s.undoable {
			continue
		}
		_, o, err = c.call(t.Context(), payload, undo(second))
		want("undo of nothing", o, err, false, s.to, s.to)
		_, o, err = c.call(t.Context(), payload, undo(id))
		want("undo", o, err, s.from != s.to, s.to, s.from)
		_, o, err = c.call(t.Context(), payload, undo(id))
		want("second undo", o, err, false, s.from, s.from)
		if !strings.Contains(s.payload, "status") && o.Reason != snapshot.ErrNotFound.Error() {
			t.Errorf("second undo of %s: %+v", s.payload, o)
		}
	}
}

func TestRejections(t *testing.T) {
	t.Parallel()
	writeUnits(t, map[string]string{
		"tr-plain.service":  "[Service]\nExecStart=/bin/sleep 86416\n",
		"tr-refuse.service": "[Unit]\nRefuseManualStart=yes\n" + shell("exec sleep 86416"),
		"tr-bad.service":    "[Service]\nRestart=no\n",
		"tr-t@.service":     shell("exec sleep 86416"),
	})
	if err := os.Symlink("/dev/null", "/etc/systemd/system/tr-masked.service"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove("/etc/systemd/system/tr-masked.service") })
	do(t, "start", "tr-plain.service")
	c := newCaller(t, "tr-*")
	tests := map[string]string{
		`{"unit":"ssh","verb":"stop"}`:                        `add "ssh.service"`,
		`{"unit":"tr-nowhere","verb":"start"}`:                "tr-nowhere.service: there is no unit of that name",
		`{"unit":"tr-masked","verb":"start"}`:                 "tr-masked.service: it is masked",
		`{"unit":"tr-bad","verb":"start"}`:                    "tr-bad.service: its load state is bad-setting",
		`{"unit":"tr-refuse","verb":"start"}`:                 "RefuseManualStart=",
		`{"unit":"tr-plain","verb":"reload"}`:                 "has no ExecReload=; restart it",
		`{"unit":"tr-plain","verb":"enable"}`:                 `the state of its file is "static"`,
		`{"unit":"tr-plain","verb":"enable","now":true}`:      `the state of its file is "static"`,
		`{"unit":"tr-t@","verb":"start"}`:                     "is a template; name an instance of it, like tr-t@1.service",
		`{"unit":"tr-plain","verb":"start","now":true}`:       "payload.now is for",
		`{"unit":"tr-plain","verb":"start","settle":"11m"}`:   "payload.settle: 11m0s is more than",
		`{"unit":"tr-plain","verb":"start","settle":"0.5mm"}`: "payload: ",
	}
	for payload, want := range tests {
		var reject *handlers.RejectError
		if _, o, err := c.call(t.Context(), payload); !errors.As(err, &reject) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want a rejection with %q", payload, o, err, want)
		}
	}
}

func TestFailuresReportTheState(t *testing.T) {
	t.Parallel()
	writeUnits(t, map[string]string{
		"tf-dies.service":   shell("echo no database; exit 3"),
		"tf-reload.service": shell("exec sleep 86416", `ExecReload=/bin/sh -c "echo bad configuration; exit 7"`),
		"tf-slow.service":   shell("echo waiting; exec sleep 86416", "Type=notify", "TimeoutStartSec=1h"),
	})
	c := newCaller(t, "tf-*")
	id, o, err := c.call(t.Context(), `{"unit":"tf-dies","verb":"enable","now":true}`)
	var failed *FailedError
	if !errors.As(err, &failed) || !o.Changed || o.To.Active != "failed" || o.To.Enabled != "enabled" || len(o.Journal) == 0 ||
		!strings.Contains(err.Error(), "no database") || !strings.HasSuffix(err.Error(), "tf-dies.service is enabled now and was disabled") {
		t.Errorf("%+v, %v", o, err)
	}
	if _, o, err = c.call(t.Context(), `{"unit":"tf-dies","verb":"enable","now":true}`, undo(id)); err != nil || o.To.Enabled != "disabled" || o.To.active() {
		t.Errorf("undone: %+v, %v", o, err)
	}
	do(t, "start", "tf-reload.service")
	_, o, err = c.call(t.Context(), `{"unit":"tf-reload","verb":"reload"}`)
	if !errors.As(err, &failed) || o.To.Active != "active" || !strings.Contains(err.Error(), "did not reload") || !strings.Contains(err.Error(), "bad configuration") {
		t.Errorf("%+v, %v", o, err)
	}
	// A unit that does not become active in time is stopped.
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, handlers.ErrTimedOut)
	defer cancel()
	_, o, err = c.call(ctx, `{"unit":"tf-slow","verb":"start"}`)
	if !errors.Is(err, handlers.ErrTimedOut) || o.To.Active == "activating" || o.To.active() || !strings.Contains(err.Error(), "waiting") || !strings.HasSuffix(err.Error(), "it was stopped again") {
		t.Errorf("%+v, %v", o, err)
	}
}
