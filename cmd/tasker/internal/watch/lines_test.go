package watch

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

func TestLines_each_change_once(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := NewLines(&b, func() time.Time { return *at(0) })
	s := client.State{Task: tasker.Task{ID: "t", Type: "ping", Identifier: "v2", Status: tasker.TaskRunning}}
	step := func(status tasker.ResponseStatus, percent float64, message string) {
		r := tasker.Response{Endpoint: "web-1", Status: status}
		if message != "" {
			r.Progress = &tasker.Progress{Percent: percent, Message: message}
		}
		s.Responses = []tasker.Response{r}
		l.Show(s)
	}
	step(tasker.Sent, 0, "")
	step(tasker.Running, 0, "")
	step(tasker.Running, 10, "unpack")
	step(tasker.Running, 12, "unpack")
	step(tasker.Running, 25, "unpack")
	s.StreamErr = client.ErrUnreachable
	l.Show(s)
	l.Show(s)
	s.StreamErr = nil
	l.Show(s)
	step(tasker.Succeeded, 100, "unpack")
	s.Task.Status = tasker.TaskSucceeded
	if err := l.End(s); err != nil {
		t.Fatal(err)
	}
	want := `03:04:05  web-1  sent
03:04:05  web-1  running
03:04:05  web-1  running  10%  unpack
03:04:05  web-1  running  25%  unpack
03:04:05  the control plane cannot be reached; trying again, while the task continues
03:04:05  the control plane can be reached again
03:04:05  web-1  succeeded  unpack
03:04:05  ping v2: succeeded
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}
