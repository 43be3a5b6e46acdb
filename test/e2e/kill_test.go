package e2e

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// Programs are killed at random moments. Every accepted task ends, nothing is started twice,
// and exactly what was done is reported as succeeded.
func TestKillsLoseNothingAndRepeatNothing(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		done := newSleepScript(f)
		names := []string{"web-1", "web-2"}
		for _, n := range names {
			f.startAgent(n)
		}
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // moments, not secrets
		const rounds, perRound = 4, 15
		var tasks []tasker.Task
		for round := range rounds {
			// The kill follows a random number of further starts.
			starts := len(done.count(t)) + random.IntN(perRound)
			for i := range perRound {
				tasks = append(tasks, f.post("update-app", fmt.Sprintf(
					`{"identifier":"%d-%d","endpoints":["web-1","web-2"],"payload":0.0%d,"receive_timeout":60}`, round, i, random.IntN(10))))
			}
			wait.For(t, "some tasks to start", func() bool { return len(done.count(t)) >= starts })
			if round%2 == 0 {
				f.cp.kill(t)
				f.startControlPlane()
			} else {
				name := names[random.IntN(len(names))]
				f.agents[name].kill(t)
				f.startAgent(name)
			}
		}
		ended := tasker.Counts{}
		for _, task := range tasks {
			a := f.waitFinished(task)
			done.check(t, a)
			for _, r := range a.Responses {
				ended[r.Status]++
				if _, n := done.counts(t, task.ID, r.Endpoint, r.Attempt); r.Status != tasker.Succeeded && r.Status != tasker.Interrupted {
					t.Errorf("%s on %s is %s (%s, %s); done %d times", task.Identifier, r.Endpoint, r.Status, r.Reason, r.Error, n)
				}
			}
		}
		t.Logf("%v", ended)
		if ended[tasker.Succeeded] < rounds*perRound {
			t.Errorf("only %v", ended)
		}
	})
}

// The control plane is killed between claiming orders and sending them. The next one sends
// them in time.
func TestKilledBeforeSending(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		f.startAgent("web-1")
		f.cp.kill(t)
		s, err := store.Open(t.Context(), store.Options{URI: f.backend.database, DataDir: filepath.Join(f.dir, "cp")})
		if err != nil {
			t.Fatal(err)
		}
		task, _, err := s.CreateTask(t.Context(), store.NewTask{
			Identifier: "x", Type: "ping", Endpoints: []string{"web-1"}, Payload: []byte("1"), ReceiveTimeout: store.ClaimHold - time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		if claims, err := s.ClaimDue(t.Context(), 10); err != nil || len(claims) != 1 {
			t.Fatalf("claimed %d, %v", len(claims), err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		f.startControlPlane()
		if a := f.waitFinished(task); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("the task is %s: %+v", a.Task.Status, a.Responses)
		}
	})
}
