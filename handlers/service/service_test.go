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

func TestPayloads(t *testing.T) {
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
		if err := a.Allowed(unit); (err == nil) != want {
			t.Errorf("%s: %v, want allowed %v", unit, err, want)
		}
	}
	if err := Allow(nil).Allowed("nginx"); err == nil || !strings.Contains(err.Error(), `add "nginx.service"`) {
		t.Errorf("got %v", err)
	}
	if _, err := New(Options{Allow: Allow{"app-["}}); err == nil || !strings.Contains(err.Error(), "handlers.service.allow[0]") {
		t.Errorf("got %v", err)
	}
}

// agent calls the handler as an agent does.
type agent struct {
	t *testing.T
	h handlers.Handler
	n int
}

func newAgent(t *testing.T, allow ...string) *agent {
	t.Helper()
	h, err := New(Options{Allow: allow, Snapshots: snapshot.New(t.TempDir()), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return &agent{t: t, h: h}
}

// call performs a payload, and returns the task's id for its undoing.
func (a *agent) call(ctx context.Context, payload string, edit ...func(*handlers.Call)) (id string, o Outcome, err error) {
	a.t.Helper()
	a.n++
	c := handlers.Call{TaskID: fmt.Sprintf("task-%d", a.n), Attempt: 1, Payload: json.RawMessage(payload), Progress: func(float64, string) {}}
	for _, e := range edit {
		e(&c)
	}
	r, err := a.h.Handle(ctx, c)
	if r.Value != nil {
		o = r.Value.(Outcome) //nolint:errcheck,forcetypeassert // a test
	}
	return c.TaskID, o, err
}

func plan(c *handlers.Call) { c.Action = tasker.Plan }

func undo(id string) func(*handlers.Call) {
	return func(c *handlers.Call) { c.Action, c.Undoes = tasker.Undo, id }
}

// Each verb changes once, says before what it would change, and is undone.
func TestVerbs(t *testing.T) {
	t.Parallel()
	units(t, map[string]string{"tv-app.service": shell("exec sleep 86416", "ExecReload=/bin/true")})
	a := newAgent(t, "tv-*")
	type is struct{ active, enabled string }
	fresh, running := is{"inactive", "disabled"}, is{"active", "disabled"}
	steps := []struct {
		payload    string
		from, to   is
		again      bool // it changes something each time
		undoneFrom bool // an undo brings from back
	}{
		{`"verb":"start"`, fresh, running, false, true},
		{`"verb":"enable","now":true`, fresh, is{"active", "enabled"}, false, true},
		{`"verb":"restart"`, fresh, running, true, true},
		{`"verb":"start"`, fresh, running, false, false},
		{`"verb":"restart"`, running, running, true, true},
		{`"verb":"reload"`, running, running, true, true},
		{`"verb":"enable"`, running, is{"active", "enabled"}, false, false},
		{`"verb":"status"`, is{"active", "enabled"}, is{"active", "enabled"}, false, true},
		{`"verb":"stop"`, is{"active", "enabled"}, is{"inactive", "enabled"}, false, true},
		{`"verb":"disable","now":true`, is{"active", "enabled"}, fresh, false, true},
		{`"verb":"disable"`, is{"active", "enabled"}, running, false, false},
	}
	for _, s := range steps {
		payload := `{"unit":"tv-app","settle":"200ms",` + s.payload + `}`
		want := func(what string, o Outcome, err error, changed bool, from, to is) {
			t.Helper()
			got := [2]is{{o.From.Active, o.From.Enabled}, {o.To.Active, o.To.Enabled}}
			if err != nil || o.Unit != "tv-app.service" || o.Changed != changed || got != [2]is{from, to} {
				t.Errorf("%s of %s: %+v, %v; want changed %v, from %v to %v", what, s.payload, o, err, changed, from, to)
			}
		}
		changes := s.again || s.from != s.to
		_, o, err := a.call(t.Context(), payload, plan)
		want("plan", o, err, changes, s.from, s.to)
		if !o.Plan {
			t.Errorf("the plan is %+v", o)
		}
		id, o, err := a.call(t.Context(), payload)
		want("first", o, err, changes, s.from, s.to)
		second, o, err := a.call(t.Context(), payload)
		want("second", o, err, s.again, s.to, s.to)
		if !s.undoneFrom {
			continue
		}
		_, o, err = a.call(t.Context(), payload, undo(second))
		want("undo of nothing", o, err, false, s.to, s.to)
		_, o, err = a.call(t.Context(), payload, undo(id))
		want("undo", o, err, s.from != s.to, s.to, s.from)
		_, o, err = a.call(t.Context(), payload, undo(id))
		want("second undo", o, err, false, s.from, s.from)
		if !strings.Contains(s.payload, "status") && o.Reason != snapshot.ErrNotFound.Error() {
			t.Errorf("second undo of %s: %+v", s.payload, o)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	units(t, map[string]string{
		"tr-plain.service":  "[Service]\nExecStart=/bin/sleep 86416\n",
		"tr-refuse.service": "[Unit]\nRefuseManualStart=yes\n" + shell("exec sleep 86416"),
		"tr-bad.service":    "[Service]\nRestart=no\n",
		"tr-t@.service":     shell("exec sleep 86416"),
	})
	if err := os.Symlink("/dev/null", "/etc/systemd/system/tr-masked.service"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove("/etc/systemd/system/tr-masked.service") })
	systemd(t, "start", "tr-plain.service")
	a := newAgent(t, "tr-*")
	tests := map[string]string{
		`{"unit":"ssh","verb":"stop"}`:                        `add "ssh.service"`,
		`{"unit":"tr-nowhere","verb":"start"}`:                "tr-nowhere.service: there is no unit of that name",
		`{"unit":"tr-masked","verb":"start"}`:                 "tr-masked.service: it is masked",
		`{"unit":"tr-bad","verb":"start"}`:                    "tr-bad.service: systemd calls it bad-setting",
		`{"unit":"tr-refuse","verb":"start"}`:                 "RefuseManualStart=",
		`{"unit":"tr-plain","verb":"reload"}`:                 "has no ExecReload=; restart it",
		`{"unit":"tr-plain","verb":"enable"}`:                 `systemd calls its file "static"`,
		`{"unit":"tr-plain","verb":"enable","now":true}`:      `systemd calls its file "static"`,
		`{"unit":"tr-t@","verb":"start"}`:                     "is a template; name an instance of it, like tr-t@1.service",
		`{"unit":"tr-plain","verb":"start","now":true}`:       "payload.now goes with",
		`{"unit":"tr-plain","verb":"start","settle":"11m"}`:   "payload.settle: 11m0s is more than",
		`{"unit":"tr-plain","verb":"start","settle":"0.5mm"}`: "payload: ",
	}
	for payload, want := range tests {
		var reject *handlers.RejectError
		if _, o, err := a.call(t.Context(), payload); !errors.As(err, &reject) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want a rejection with %q", payload, o, err, want)
		}
	}
}

// What fails says how the unit is, in the error and in the result.
func TestFailures(t *testing.T) {
	t.Parallel()
	units(t, map[string]string{
		"tf-dies.service":   shell("echo no database; exit 3"),
		"tf-reload.service": shell("exec sleep 86416", `ExecReload=/bin/sh -c "echo bad configuration; exit 7"`),
		"tf-slow.service":   shell("echo waiting; exec sleep 86416", "Type=notify", "TimeoutStartSec=1h"),
	})
	a := newAgent(t, "tf-*")
	id, o, err := a.call(t.Context(), `{"unit":"tf-dies","verb":"enable","now":true}`)
	var failed *FailedError
	if !errors.As(err, &failed) || !o.Changed || o.To.Active != "failed" || o.To.Enabled != "enabled" || len(o.Journal) == 0 ||
		!strings.Contains(err.Error(), "no database") || !strings.HasSuffix(err.Error(), "tf-dies.service is enabled now and was disabled") {
		t.Errorf("%+v, %v", o, err)
	}
	if _, o, err = a.call(t.Context(), `{"unit":"tf-dies","verb":"enable","now":true}`, undo(id)); err != nil || o.To.Enabled != "disabled" || o.To.active() {
		t.Errorf("undone: %+v, %v", o, err)
	}
	systemd(t, "start", "tf-reload.service")
	_, o, err = a.call(t.Context(), `{"unit":"tf-reload","verb":"reload"}`)
	if !errors.As(err, &failed) || o.To.Active != "active" || !strings.Contains(err.Error(), "did not reload") || !strings.Contains(err.Error(), "bad configuration") {
		t.Errorf("%+v, %v", o, err)
	}
	// What was not active is not left half started when there is no more time.
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, handlers.ErrTimedOut)
	defer cancel()
	_, o, err = a.call(ctx, `{"unit":"tf-slow","verb":"start"}`)
	if !errors.Is(err, handlers.ErrTimedOut) || o.To.Active == "activating" || o.To.active() || !strings.Contains(err.Error(), "waiting") || !strings.HasSuffix(err.Error(), "it was stopped again") {
		t.Errorf("%+v, %v", o, err)
	}
}

// An agent that stops leaves the unit to systemd, and the next one restarts nothing
// a second time.
func TestResumed(t *testing.T) {
	t.Parallel()
	const unit, payload = "ts-app.service", `{"unit":"ts-app","verb":"restart","settle":"200ms"}`
	units(t, map[string]string{unit: shell("until [ -e /run/ts-go ]; do sleep 0.05; done; systemd-notify --ready; sleep 86416", "Type=notify", "NotifyAccess=all")})
	release := func() {
		if err := os.WriteFile("/run/ts-go", nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Remove("/run/ts-go") })
	release()
	systemd(t, "start", unit)
	a := newAgent(t, "ts-*")
	for _, cancelled := range []bool{false, true} {
		if err := os.Remove("/run/ts-go"); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancelCause(t.Context())
		begun := make(chan struct{})
		go func() {
			defer close(begun)
			m := new(Manager)
			for {
				if s, err := m.State(t.Context(), unit); err != nil || s.Active == "activating" {
					stop(handlers.ErrStopping)
					return
				}
			}
		}()
		id, _, err := a.call(ctx, payload)
		<-begun
		if !errors.Is(err, handlers.ErrStopping) {
			t.Fatalf("got %v", err)
		}
		c, err := connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		s, err := c.show(t.Context(), unit)
		if err != nil || s.Active != "activating" {
			t.Fatalf("it is %s, %v: systemd does not go on", s, err)
		}
		resumed := func(c *handlers.Call) { c.TaskID, c.Resumed = id, true }
		ctx, cancel := context.WithCancelCause(t.Context())
		if cancelled {
			cancel(handlers.ErrCancelled)
		}
		release()
		_, o, err := a.call(ctx, payload, resumed)
		after, showErr := c.show(t.Context(), unit)
		cancel(nil)
		if showErr != nil || after.invocation != s.invocation {
			t.Errorf("cancelled %v: it was restarted again, %v", cancelled, showErr)
		}
		if !o.Changed || o.From.Active != "active" {
			t.Errorf("cancelled %v: %+v", cancelled, o)
		}
		if want := map[bool]error{true: handlers.ErrCancelled}[cancelled]; !errors.Is(err, want) || !cancelled && o.To.Active != "active" {
			t.Errorf("cancelled %v: %v, %+v", cancelled, err, o)
		}
		for active := false; !active; {
			if active, err = new(Manager).Active(t.Context(), unit); err != nil {
				t.Fatal(err)
			}
		}
	}
}
