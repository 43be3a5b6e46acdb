package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

func TestManyTasksForOneAgent(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		done := newSleepScript(f)
		f.startAgent("web-1")
		var tasks []tasker.Task
		for i := range 150 {
			tasks = append(tasks, f.post("update-app", fmt.Sprintf(`{"identifier":"%d","endpoints":["web-1"],"payload":0,"receive_timeout":60}`, i)))
		}
		for _, task := range tasks {
			a := f.waitFinished(task)
			if a.Task.Status != tasker.TaskSucceeded {
				t.Errorf("task %s is %s: %+v", task.Identifier, a.Task.Status, a.Responses)
			}
			done.check(t, a)
		}
	})
}

// Payloads and results of the maximum size arrive unchanged. Longer output is truncated and
// marked as such.
func TestLargePayloadsResultsAndOutput(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		f.script("update-app", "#!/bin/sh\nsha256sum | cut -d' ' -f1 >&2\nexit 1\n")
		f.startAgent("web-1")
		payload := strings.Repeat("x", tasker.MaxPayload-2)
		a := f.waitFinished(f.post("ping", `{"identifier":"echo","endpoints":["web-1"],"payload":"`+strings.Repeat("y", tasker.MaxResult-2)+`"}`))
		if r := a.response("web-1"); r.Status != tasker.Succeeded || len(r.Result) != tasker.MaxResult {
			t.Errorf("a result of the allowed size: %s (%s, %s) with %d bytes", r.Status, r.Reason, r.Error, len(r.Result))
		}
		a = f.waitFinished(f.post("ping", `{"identifier":"too large a result","endpoints":["web-1"],"payload":"`+payload+`"}`))
		if r := a.response("web-1"); string(r.Result) != "null" && len(r.Result) != 0 || r.Reason == "" && r.Error == "" {
			t.Errorf("too large a result: %s (%s, %s) with %d bytes", r.Status, r.Reason, r.Error, len(r.Result))
		}
		a = f.waitFinished(f.post("update-app", `{"identifier":"payload","endpoints":["web-1"],"payload":"`+payload+`"}`))
		want := fmt.Sprintf("%x", sha256.Sum256([]byte(`"`+payload+`"`)))
		if r := a.response("web-1"); r.Error != want {
			t.Errorf("the payload did not arrive unchanged: %s (%s, %s)", r.Status, r.Reason, r.Error)
		}
		f.script("update-app", "#!/bin/sh\nprintf '::result \"%s\"\n' \"$(head -c 307200 /dev/zero | tr '\\0' z)\"\n")
		a = f.waitFinished(f.post("update-app", `{"identifier":"result","endpoints":["web-1"]}`))
		if r := a.response("web-1"); r.Reason == "" && r.Error == "" {
			t.Errorf("an omitted result without a reason: %+v", r)
		}
		f.script("update-app", "#!/bin/sh\nhead -c 50000000 /dev/zero | tr '\\0' x\nprintf 'the very end'\n")
		a = f.waitFinished(f.post("update-app", `{"identifier":"output","endpoints":["web-1"]}`))
		r := a.response("web-1")
		if r.Status != tasker.Succeeded || r.OutputBytes != 50_000_012 || !r.OutputTruncated {
			t.Errorf("50 MB of output: %s (%s, %s), %d bytes, truncated %t", r.Status, r.Reason, r.Error, r.OutputBytes, r.OutputTruncated)
		}
		if out := f.output(a.Task, "web-1"); !strings.HasSuffix(out, "the very end") || len(out) < 300_000 || len(out) > 400_000 {
			t.Errorf("%d bytes of output were kept, ending with %q", len(out), out[max(0, len(out)-20):])
		}
	})
}

func (f *fleet) output(task tasker.Task, endpoint string) string {
	f.t.Helper()
	resp, err := http.Get("http://" + f.api + "/" + task.Type + "/" + task.ID + "/responses/" + endpoint + "/output") //nolint:noctx // on loopback
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(raw)
}
