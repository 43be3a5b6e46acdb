package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

func TestPerformAndReport(t *testing.T) {
	t.Parallel()
	code := 0
	r := startDefault(t, handlerFunc("deploy", func(_ context.Context, c handlers.Call) (handlers.Result, error) {
		if c.Identifier != "i-t1" || c.Endpoint != endpoint || c.Type != "deploy" || c.Attempt != 1 || c.Resumed {
			return handlers.Result{}, fmt.Errorf("call is %+v", c)
		}
		fmt.Fprint(c.Output, "hello\n")
		c.Progress(40, "almost")
		c.Progress(100, "there")
		return handlers.Result{Value: c.Payload, ExitCode: &code}, nil
	}))
	r.deliver(assign(r.controlPlane, "t1", "deploy"))
	got := r.waitEnded(t, "t1")
	if got.Status != tasker.Succeeded || got.Error != "" || string(got.Result) != `{"id":"t1"}` || got.ExitCode == nil {
		t.Errorf("response is %+v, result %s", got, got.Result)
	}
	if got.Progress == nil || *got.Progress != (tasker.Progress{Percent: 100, Message: "there"}) {
		t.Errorf("progress is %+v", got.Progress)
	}
	if got.ReceivedAt == nil || got.StartedAt == nil || got.FinishedAt == nil || got.FinishedAt.Before(*got.ReceivedAt) {
		t.Errorf("times are %v %v %v", got.ReceivedAt, got.StartedAt, got.FinishedAt)
	}
	if out := r.outputOf("t1"); out != "hello\n" || got.OutputBytes != 6 || got.OutputTruncated {
		t.Errorf("output is %q, %d bytes, truncated %v", out, got.OutputBytes, got.OutputTruncated)
	}
	first := reports(r.controlPlane)[0]
	if first.Hello == nil || first.Endpoint != endpoint || first.Instance != r.journal.Instance() || first.Version != tasker.WireVersion {
		t.Errorf("the first report is %+v", first)
	}
}

// A handler can end in each of these ways.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	type row struct {
		name    string
		handle  func(context.Context, handlers.Call) (handlers.Result, error)
		timeout time.Duration
		want    tasker.ResponseStatus
		// reason and err are substrings.
		reason, err string
		result      string
	}
	tests := []row{
		{name: "no-result", want: tasker.Succeeded, handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{}, nil
		}},
		{name: "error", want: tasker.Failed, err: "disk is full", result: `{"n":1}`, handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{Value: map[string]int{"n": 1}}, errors.New("disk is full")
		}},
		{name: "reject", want: tasker.Rejected, reason: "not on Sundays", handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{}, fmt.Errorf("wrapped: %w", handlers.Reject("not on %ss", "Sunday"))
		}},
		{name: "panic", want: tasker.Failed, err: "handler panic panicked: oh no", handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			panic("oh no")
		}},
		{name: "big", want: tasker.Failed, err: "262147 bytes", handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{Value: strings.Repeat("x", tasker.MaxResult+1)}, nil
		}},
		{name: "largest", want: tasker.Succeeded, result: `"` + strings.Repeat("x", tasker.MaxResult-2) + `"`, handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{Value: strings.Repeat("x", tasker.MaxResult-2)}, nil
		}},
		{name: "not-json", want: tasker.Failed, err: "cannot be encoded", handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{Value: func() {}}, nil
		}},
		{name: "error-and-not-json", want: tasker.Failed, err: "first; the handler's result is not kept", handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{Value: math.NaN()}, errors.New("first")
		}},
		{name: "timeout", want: tasker.TimedOut, reason: "not done within 20ms", timeout: 20 * time.Millisecond, handle: func(ctx context.Context, _ handlers.Call) (handlers.Result, error) {
			<-ctx.Done()
			return handlers.Result{}, context.Cause(ctx)
		}},
		{name: "timeout-with-details", want: tasker.TimedOut, err: "was at step 3", timeout: 20 * time.Millisecond, handle: func(ctx context.Context, _ handlers.Call) (handlers.Result, error) {
			<-ctx.Done()
			return handlers.Result{}, fmt.Errorf("was at step 3: %w", context.Cause(ctx))
		}},
		{name: "deadline-in-context", want: tasker.Succeeded, timeout: time.Hour, handle: func(ctx context.Context, _ handlers.Call) (handlers.Result, error) {
			if _, known := ctx.Deadline(); !known {
				return handlers.Result{}, errors.New("the context has no deadline")
			}
			return handlers.Result{}, nil
		}},
		{name: "success-after-timeout", want: tasker.Succeeded, timeout: 20 * time.Millisecond, handle: func(ctx context.Context, _ handlers.Call) (handlers.Result, error) {
			<-ctx.Done()
			return handlers.Result{}, nil
		}},
		{name: "own-timeout", want: tasker.Failed, err: "context deadline exceeded", handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{}, context.DeadlineExceeded
		}},
		{name: "odd-progress", want: tasker.Succeeded, handle: func(_ context.Context, c handlers.Call) (handlers.Result, error) {
			c.Progress(math.NaN(), "\xff"+strings.Repeat("y", 1<<20))
			return handlers.Result{}, nil
		}},
		{name: "odd-error", want: tasker.Failed, err: "bytes", handle: func(context.Context, handlers.Call) (handlers.Result, error) {
			return handlers.Result{}, errors.New("bytes \xff\xfe" + strings.Repeat("z", 1<<20))
		}},
		{name: "output-after-return", want: tasker.Succeeded, handle: func(_ context.Context, c handlers.Call) (handlers.Result, error) {
			go func() { c.Progress(1, "late"); fmt.Fprint(c.Output, "late") }()
			return handlers.Result{}, nil
		}},
	}
	hs := make([]handlers.Handler, len(tests))
	for i, tt := range tests {
		hs[i] = handlerFunc(tt.name, tt.handle)
	}
	r := startDefault(t, hs...)
	for _, tt := range tests {
		o := assign(r.controlPlane, tt.name, tt.name)
		o.Assignment.Timeout = tasker.Duration(tt.timeout)
		r.deliver(o)
	}
	for _, tt := range tests {
		got := r.waitEnded(t, tt.name)
		if got.Status != tt.want || !strings.Contains(got.Reason, tt.reason) || !strings.Contains(got.Error, tt.err) || string(got.Result) != tt.result {
			t.Errorf("%s: status %s, reason %q, error %.200q, result of %d bytes", tt.name, got.Status, got.Reason, got.Error, len(got.Result))
		}
		if len(got.Error) > 20<<10 {
			t.Errorf("%s: an error of %d bytes", tt.name, len(got.Error))
		}
	}
	if problems, err := testutil.GatherAndLint(r.reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}

func TestRejectedOnArrival(t *testing.T) {
	t.Parallel()
	h := handler{
		info:   handlers.Info{Name: "strict", Schema: json.RawMessage(`{"type":"object","required":["n"]}`)},
		handle: func(context.Context, handlers.Call) (handlers.Result, error) { panic("started") },
	}
	r := startAgent(t, newDirectControlPlane(), t.TempDir(), []handlers.Handler{h})
	unknown := assign(r.controlPlane, "unknown", "unknown")
	bad := assign(r.controlPlane, "bad", "strict")
	newer := assign(r.controlPlane, "newer", "strict")
	newer.Version = tasker.MaxWireVersion + 1
	odd := assign(r.controlPlane, "odd", "strict")
	odd.Type = "../etc"
	r.deliver(unknown, bad, newer, odd)
	for id, reason := range map[string]string{
		"unknown": `handler "unknown" is not configured`, "bad": "bad payload", "newer": "update the agent", "odd": "../etc",
	} {
		if got := r.waitEnded(t, id); got.Status != tasker.Rejected || !strings.Contains(got.Reason, reason) {
			t.Errorf("%s: %s, %q", id, got.Status, got.Reason)
		}
	}
}

// These orders are acknowledged without any effect.
func TestInvalidOrdersAreDropped(t *testing.T) {
	t.Parallel()
	r := startAgent(t, newDirectControlPlane(), t.TempDir(), []handlers.Handler{
		handlerFunc("deploy", func(context.Context, handlers.Call) (handlers.Result, error) { return handlers.Result{}, nil }),
	})
	other := assign(r.controlPlane, "other", "deploy")
	other.Endpoint = "loadbalancer-2"
	nameless, path, attemptless := assign(r.controlPlane, "", "deploy"), assign(r.controlPlane, "../x", "deploy"), assign(r.controlPlane, "a", "deploy")
	attemptless.Assignment.Attempt = 0
	both := assign(r.controlPlane, "both", "deploy")
	both.Cancel = cancel(r.controlPlane, "both").Cancel
	none := tasker.Order{Version: 1, Endpoint: endpoint}
	newer := cancel(r.controlPlane, "newer")
	newer.Version = 99
	all := assign(r.controlPlane, "all", "deploy")
	all.Endpoint = tasker.AllEndpoints
	r.deliver(other, nameless, path, attemptless, both, none, newer)
	r.deliver(all)
	if got := r.waitEnded(t, "all"); got.Status != tasker.Succeeded {
		t.Errorf("an order for everyone: %+v", got)
	}
	must(t, r.stop()) // now all reports are sent
	if len(r.responses) != 1 {
		t.Errorf("responses are %+v", r.responses)
	}
}
