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

// A database that stands still, its connections open, makes nothing missing
// either when it goes on.
func TestStalledDatabaseMakesNothingMissing(t *testing.T) {
	t.Parallel()
	onWires(t, func(t *testing.T, f *fleet, w *wires) {
		if w.database == nil {
			t.Skip("there is no wire to the database")
		}
		done := newLedger(f)
		agent := f.startAgent("web-1")
		agent.freeze(t)
		task := f.post("update-app", `{"identifier":"stalled","endpoints":["web-1"],"payload":0,"receive_timeout":8}`)
		f.reaches(task, "web-1", tasker.Sent)
		w.database.Stall()
		agent.thaw(t)
		wait.For(t, "the script to end", func() bool {
			_, ended := done.of(t, task.ID, "web-1", 1)
			return ended == 1
		})
		wait.For(t, "the control plane to see that the database is away", func() bool {
			return strings.Contains(f.cp.log.String(), "deadlines cannot be kept")
		})
		w.database.Resume()
		a := f.ends(task)
		if r := a.of("web-1"); r.Status != tasker.Succeeded || r.Late {
			t.Errorf("it is %s (%s), late: %t", r.Status, r.Reason, r.Late)
		}
	})
}

// What an agent has received counts, even if its word comes late.
func TestLateReportsCount(t *testing.T) {
	t.Parallel()
	f := newFleet(t, fabrics()["http+sqlite"](t))
	var mute atomic.Bool
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: f.api})
	proxy.FlushInterval = -1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(r.Body)
			if err != nil || mute.Load() && bytes.Contains(body, []byte(`"update"`)) {
				http.Error(w, "cut", http.StatusBadGateway)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	f.fabric.agents = func(string) string { return fmt.Sprintf("server: {uri: %q}\n", server.URL) }
	done := newLedger(f)
	f.startAgent("web-1")
	mute.Store(true)
	task := f.post("update-app", `{"identifier":"late","endpoints":["web-1"],"payload":0,"receive_timeout":8}`)
	a := f.ends(task)
	if r := a.of("web-1"); r.Status != tasker.Missing || r.Reason != "not acknowledged" || a.Task.Status != tasker.TaskIncomplete {
		t.Errorf("task is %s, response %s (%s)", a.Task.Status, r.Status, r.Reason)
	}
	mute.Store(false)
	f.reaches(task, "web-1", tasker.Succeeded)
	a = f.get(task.Type, task.ID)
	if r := a.of("web-1"); !r.Late || a.Task.Status != tasker.TaskSucceeded || a.Task.FinishedAt == nil {
		t.Errorf("task is %s, response %+v", a.Task.Status, r)
	}
	done.truthful(t, a)
}

// A broadcast reaches those who come while it is open, and nobody afterwards.
func TestBroadcastReachesThoseWhoComeInTime(t *testing.T) {
	t.Parallel()
	onEachFabric(t, func(t *testing.T, f *fleet) {
		done := newLedger(f)
		f.startAgent("early")
		task := f.post("update-app", `{"identifier":"all","payload":0,"receive_timeout":15}`)
		f.startAgent("joining")
		a := f.ends(task)
		if a.Task.Status != tasker.TaskSucceeded || len(a.Responses) != 2 {
			t.Errorf("task is %s: %+v", a.Task.Status, a.Responses)
		}
		if a.Task.FinishedAt.Before(task.ReceiveDeadline) {
			t.Errorf("it is finished while it is open")
		}
		f.startAgent("late")
		if s := f.ends(f.post("update-app", `{"identifier":"next","endpoints":["late"],"payload":0}`)).Task.Status; s != tasker.TaskSucceeded {
			t.Errorf("the next task is %s", s)
		}
		a = f.get(task.Type, task.ID)
		if began, _ := done.of(t, task.ID, "late", 1); began > 0 || len(a.Responses) != 2 {
			t.Errorf("started %d times after it was closed: %+v", began, a.Responses)
		}
		done.truthful(t, a)
	})
}
