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

// four are endpoints, and inThree is a rollout on them in the waves of waves.
const (
	four    = `"endpoints":["web-1","web-2","web-3","web-4"],"receive_timeout":60`
	inThree = `"canary":1,"batch":2`
)

func waves() [][]string { return [][]string{{"web-1"}, {"web-2", "web-3"}, {"web-4"}} }

// newWaves makes update-app a script that can plan and undo. It writes down each of
// its starts and ends, and fails at once on the endpoints that are named in the file
// bad. On the others it takes a tenth of a second longer on each than on the one
// before, and does not end while there is a file that holds the action.
func newWaves(f *fleet) ledger {
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

// hold keeps the script of newWaves, or of newLedger, from ending an action, until it
// is let go.
func (f *fleet) hold(action string) (letGo func()) {
	f.t.Helper()
	path := f.write("hold-"+action, "")
	return func() {
		f.t.Helper()
		if err := os.Remove(path); err != nil {
			f.t.Fatal(err)
		}
	}
}

// order holds against the waves in which an attempt should have been made what was
// done and when: everybody once, and nobody before all of the wave before had ended.
func (l ledger) order(t *testing.T, task string, attempt int, waves ...[]string) {
	t.Helper()
	var done []string // all but the last one, in the order of their ends
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

// gate is a URL that a rollout asks.
type gate struct {
	url    string
	status atomic.Int64
	asked  atomic.Int64
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{}
	g.status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		g.asked.Add(1)
		w.WriteHeader(int(g.status.Load()))
	}))
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

// comes waits until a rollout is in a state, and returns the answer.
func (f *fleet) comes(task tasker.Task, state tasker.RolloutState) answer {
	f.t.Helper()
	var a answer
	wait.For(f.t, fmt.Sprintf("%s to be %s", task.Identifier, state), func() bool {
		a = f.get(task.Type, task.ID)
		return a.Task.Rollout.State == state
	})
	return a
}

// asks makes a call without a body on a task, which must be taken.
func (f *fleet) asks(task tasker.Task, what string) {
	f.t.Helper()
	if code := f.call(http.MethodPost, "/"+task.Type+"/"+task.ID+"/"+what, "", nil); code/100 != 2 {
		f.t.Fatalf("%s answered %d", what, code)
	}
}
