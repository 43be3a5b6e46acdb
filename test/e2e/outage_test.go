package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// The database stalls with open connections for longer than the receive deadline. The task
// does not become missing.
func TestStalledDatabaseMakesNothingMissing(t *testing.T) {
	t.Parallel()
	withProxies(t, func(t *testing.T, f *fleet, w *proxies) {
		if w.database == nil {
			t.Skip("SQLite needs no connection")
		}
		done := newSleepScript(f)
		agent := f.startAgent("web-1")
		agent.freeze(t)
		task := f.post("update-app", `{"identifier":"stalled","endpoints":["web-1"],"payload":0,"receive_timeout":8}`)
		f.waitStatus(task, "web-1", tasker.Sent)
		w.database.Stall()
		agent.thaw(t)
		wait.For(t, "the script to end", func() bool {
			_, ended := done.counts(t, task.ID, "web-1", 1)
			return ended == 1
		})
		wait.For(t, "the control plane to report that the database is unavailable", func() bool {
			return strings.Contains(f.cp.log.String(), "deadlines cannot be kept")
		})
		w.database.Resume()
		a := f.waitFinished(task)
		if r := a.response("web-1"); r.Status != tasker.Succeeded || r.Late {
			t.Errorf("response is %s (%s), late: %t", r.Status, r.Reason, r.Late)
		}
	})
}

// A report after the deadline still updates the response.
func TestLateReportsCount(t *testing.T) {
	t.Parallel()
	f := newFleet(t, backends()["http+sqlite"](t))
	var blockUpdates atomic.Bool
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: f.api})
	proxy.FlushInterval = -1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(r.Body)
			if err != nil || blockUpdates.Load() && bytes.Contains(body, []byte(`"update"`)) {
				http.Error(w, "cut", http.StatusBadGateway)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	f.backend.agents = func(string) string { return fmt.Sprintf("server: {uri: %q}\n", server.URL) }
	done := newSleepScript(f)
	f.startAgent("web-1")
	blockUpdates.Store(true)
	task := f.post("update-app", `{"identifier":"late","endpoints":["web-1"],"payload":0,"receive_timeout":8}`)
	a := f.waitFinished(task)
	if r := a.response("web-1"); r.Status != tasker.Missing || r.Reason != "not acknowledged" || a.Task.Status != tasker.TaskIncomplete {
		t.Errorf("task is %s, response %s (%s)", a.Task.Status, r.Status, r.Reason)
	}
	blockUpdates.Store(false)
	f.waitStatus(task, "web-1", tasker.Succeeded)
	a = f.get(task.Type, task.ID)
	if r := a.response("web-1"); !r.Late || a.Task.Status != tasker.TaskSucceeded || a.Task.FinishedAt == nil {
		t.Errorf("task is %s, response %+v", a.Task.Status, r)
	}
	done.check(t, a)
}

// A broadcast reaches agents that connect while it is open, and none afterwards.
func TestBroadcastReachesAgentsThatConnectInTime(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		done := newSleepScript(f)
		f.startAgent("early")
		task := f.post("update-app", `{"identifier":"all","payload":0,"receive_timeout":15}`)
		f.startAgent("joining")
		a := f.waitFinished(task)
		if a.Task.Status != tasker.TaskSucceeded || len(a.Responses) != 2 {
			t.Errorf("task is %s: %+v", a.Task.Status, a.Responses)
		}
		if a.Task.FinishedAt.Before(task.ReceiveDeadline) {
			t.Errorf("the task is finished while it is open")
		}
		f.startAgent("late")
		if s := f.waitFinished(f.post("update-app", `{"identifier":"next","endpoints":["late"],"payload":0}`)).Task.Status; s != tasker.TaskSucceeded {
			t.Errorf("the next task is %s", s)
		}
		a = f.get(task.Type, task.ID)
		if began, _ := done.counts(t, task.ID, "late", 1); began > 0 || len(a.Responses) != 2 {
			t.Errorf("started %d times after it was closed: %+v", began, a.Responses)
		}
		done.check(t, a)
	})
}
