package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// fourEndpoints are the target of a task, threeWaves is a rollout on them in three waves.
const (
	fourEndpoints = `"endpoints":["web-1","web-2","web-3","web-4"],"receive_timeout":60`
	threeWaves    = `"canary":1,"batch":2`
)

// waves returns the waves of a rollout with threeWaves.
func waves() [][]string { return [][]string{{"web-1"}, {"web-2", "web-3"}, {"web-4"}} }

// newWaveScript makes update-app a script that supports dry runs and undo. It records its
// starts and ends in a ledger, and fails at once on the endpoints in the file "bad". On
// the others it takes 0.1 s on web-1, 0.2 s on web-2 and so on, and does not end while
// hold is in effect for its action.
func newWaveScript(f *fleet) ledger {
	f.t.Helper()
	f.write("bad", "")
	f.script("update-app", `#!/bin/sh
# tasker: plan=yes undo=yes
cd '`+f.dir+`'
if [ "$TASKER_ACTION" = plan ]; then
	echo "::result {\"plan\": true, \"changed\": true, \"would\": \"update $TASKER_ENDPOINT\"}"
	exit
fi
me="$TASKER_TASK_ID $TASKER_ENDPOINT $TASKER_ATTEMPT"
echo "began $me" >>ledger
if [ "$TASKER_ACTION" = perform ] && grep -qx "$TASKER_ENDPOINT" bad; then
	echo "ended $me" >>ledger
	exit 1
fi
sleep "0.${TASKER_ENDPOINT##*-}"
while [ -e "hold-$TASKER_ACTION" ]; do sleep 0.02; done
echo "ended $me" >>ledger
`)
	return ledger{filepath.Join(f.dir, "ledger")}
}

// startAgents starts agents web-1, web-2, …
func (f *fleet) startAgents(n int) {
	f.t.Helper()
	for i := range n {
		f.startAgent(fmt.Sprintf("web-%d", i+1))
	}
}

// hold keeps the script of newWaveScript or newSleepScript from ending an action until
// release is called.
func (f *fleet) hold(action string) (release func()) {
	f.t.Helper()
	path := f.write("hold-"+action, "")
	return func() {
		f.t.Helper()
		if err := os.Remove(path); err != nil {
			f.t.Fatal(err)
		}
	}
}

// checkWaves checks that an attempt ran on every endpoint once, and on none before all
// endpoints of the wave before had ended.
func (l ledger) checkWaves(t *testing.T, task string, attempt int, waves ...[]string) {
	t.Helper()
	var done []string // in the order of their ends
	var running []string
	lines := l.lines(t)
	for _, line := range lines {
		var what, id, endpoint string
		var n int
		if _, err := fmt.Sscan(line, &what, &id, &endpoint, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if id != task || n != attempt {
			continue
		}
		if what == "ended" {
			running = slices.DeleteFunc(running, func(name string) bool { return name == endpoint })
			done = append(done, endpoint)
			continue
		}
		before := 0
		for _, wave := range waves {
			if slices.Contains(wave, endpoint) {
				break
			}
			before += len(wave)
		}
		if len(done) < before || slices.Contains(running, endpoint) || slices.Contains(done, endpoint) {
			t.Errorf("%s begins when %v run and %v have ended; the waves are %v", endpoint, running, done, waves)
		}
		running = append(running, endpoint)
	}
	all := slices.Sorted(slices.Values(slices.Concat(waves...)))
	slices.Sort(done)
	if !slices.Equal(done, all) || len(running) > 0 {
		t.Errorf("%v have ended and %v still run, want that %v have; in the ledger is\n%s", done, running, all, strings.Join(lines, "\n"))
	}
}

// gate is an HTTP server that a rollout uses as its gate.
type gate struct {
	url      string
	status   atomic.Int64
	requests atomic.Int64
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{}
	g.status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		g.requests.Add(1)
		w.WriteHeader(int(g.status.Load()))
	}))
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

// waitRollout waits until a rollout is in a state.
func (f *fleet) waitRollout(task tasker.Task, state tasker.RolloutState) answer {
	f.t.Helper()
	var a answer
	wait.For(f.t, fmt.Sprintf("%s to be %s", task.Identifier, state), func() bool {
		a = f.get(task.Type, task.ID)
		return a.Task.Rollout.State == state
	})
	return a
}

// mustControl cancels, retries, pauses or resumes a task, which the API must accept.
func (f *fleet) mustControl(task tasker.Task, what string) {
	f.t.Helper()
	if code := f.call(http.MethodPost, "/"+task.Type+"/"+task.ID+"/"+what, "", nil); code/100 != 2 {
		f.t.Fatalf("%s answered %d", what, code)
	}
}
