package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport/transporttest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// Connections are cut and stalled, programs killed, tasks cancelled and retried, all at
// random. The responses match what was done, and nothing was done twice.
func TestChaos(t *testing.T) {
	t.Parallel()
	withProxies(t, func(t *testing.T, f *fleet, w *proxies) {
		done := newSleepScript(f)
		names := []string{"web-1", "web-2"}
		for _, n := range names {
			f.startAgent(n)
		}
		seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))                //nolint:gosec // moments, not secrets
		stopFaults := w.disturb(rand.New(rand.NewPCG(seed, 1))) //nolint:gosec // moments, not secrets
		defer stopFaults()
		var tasks []tasker.Task
		for i := range 60 {
			ref := fmt.Sprint(i)
			f.callUntilServed(http.MethodPost, "/update-app", fmt.Sprintf(
				`{"identifier":%q,"endpoints":["web-1","web-2"],"payload":0.%d,"receive_timeout":60}`, ref, random.IntN(3)))
			tasks = append(tasks, tasker.Task{Type: "update-app", ID: ref, Identifier: ref})
			switch random.IntN(10) {
			case 0:
				f.cp.kill(t)
				f.startControlPlane()
			case 1, 2:
				name := names[random.IntN(len(names))]
				f.agents[name].kill(t)
				f.startAgent(name)
			case 3:
				f.callUntilServed(http.MethodPost, "/update-app/"+ref+"/cancel", "")
			case 4:
				f.callUntilServed(http.MethodPost, "/update-app/"+fmt.Sprint(random.IntN(i+1))+"/retry", "")
			}
		}
		stopFaults()
		ended := tasker.Counts{}
		for _, task := range tasks {
			a := f.waitFinished(task)
			done.check(t, a)
			for _, r := range a.Responses {
				ended[r.Status]++
				switch r.Status {
				case tasker.Succeeded, tasker.Interrupted, tasker.Cancelled:
				default:
					t.Errorf("%s on %s is %s (%s, %s)", task.Identifier, r.Endpoint, r.Status, r.Reason, r.Error)
				}
			}
		}
		for what, n := range done.count(t) {
			if n > 1 {
				t.Errorf("%d times: %s", n, what)
			}
		}
		t.Logf("%v", ended)
	})
}

// disturb cuts and stalls connections until the returned function is called.
func (w *proxies) disturb(random *rand.Rand) func() {
	var all []*transporttest.Proxy
	for _, p := range []*transporttest.Proxy{w.agents, w.broker, w.database} {
		if p != nil {
			all = append(all, p)
		}
	}
	stop := make(chan struct{})
	var faults sync.WaitGroup
	pause := func() bool {
		select {
		case <-stop:
			return false
		case <-time.After(time.Duration(random.IntN(500)) * time.Millisecond):
			return true
		}
	}
	faults.Go(func() {
		for pause() {
			proxy := all[random.IntN(len(all))]
			if random.IntN(2) == 0 {
				proxy.Cut()
				continue
			}
			proxy.Stall()
			pause()
			proxy.Resume()
		}
	})
	return sync.OnceFunc(func() {
		close(stop)
		faults.Wait()
	})
}

// callUntilServed repeats a request until its status code is below 500.
func (f *fleet) callUntilServed(method, path, body string) {
	f.t.Helper()
	wait.For(f.t, method+" "+path, func() bool {
		req, err := http.NewRequestWithContext(f.t.Context(), method, "http://"+f.api+path, strings.NewReader(body))
		if err != nil {
			f.t.Fatal(err)
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		if resp.StatusCode >= 500 && resp.StatusCode != http.StatusServiceUnavailable {
			f.t.Errorf("%s %s answered %d", method, path, resp.StatusCode)
		}
		return resp.StatusCode < 500
	})
}
