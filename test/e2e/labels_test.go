package e2e

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// enrolToken creates an enrolment token with a request like {"max_uses":2}.
func (f *fleet) enrolToken(request string) string {
	f.t.Helper()
	var token tasker.EnrolToken
	if code := f.call(http.MethodPost, "/tokens", request, &token); code != http.StatusCreated {
		f.t.Fatalf("POST /tokens answered %d", code)
	}
	return token.Token
}

// uniqueName returns a name for an endpoint that enrols. Users of a RabbitMQ broker are not
// per vhost, so parallel tests cannot use the same name.
func uniqueName(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:8]) }

// enrol enrols an agent, with additional lines of configuration. It returns the file of the
// configuration and the result.
func (f *fleet) enrol(name, token string, further ...string) (config string, p *process) {
	f.t.Helper()
	config = f.write(name+".yaml", fmt.Sprintf("data_dir: %q\nlabels: {role: web, claim: %s}\nmetrics: {port: 0}\n", filepath.Join(f.dir, name), name)+strings.Join(further, "\n"))
	p = startProgram(f.t, "tasker-agent", "enrol", "--config", config, "--server", "http://"+f.api, "--token", token, "--endpoint", name)
	<-p.done
	return config, p
}

// startEnrolled enrols an agent, with additional lines of configuration, starts it, and
// waits until it is connected.
func (f *fleet) startEnrolled(name, token string, further ...string) *process {
	f.t.Helper()
	config, p := f.enrol(name, token, further...)
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		f.t.Fatalf("enrol exited with %d:\n%s", code, p.log)
	}
	agent := startProgram(f.t, "tasker-agent", "run", "--config", config)
	wait.For(f.t, name+" to be connected", func() bool { return f.endpoint(name).Connected })
	return agent
}

// An enrolled agent that claims the labels and the handlers of others gets none of their
// payloads, and is no canary of their rollouts, until an admin gives it their label.
func TestSelectorsIgnoreTheClaimsOfEnrolledAgents(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		web, hostile := uniqueName("web"), uniqueName("a-hostile")
		f.startEnrolled(web, f.enrolToken(`{"labels":{"role":"web"}}`))
		f.startEnrolled(hostile, f.enrolToken(`{}`))
		if e := f.endpoint(hostile); len(e.Labels) != 0 || !maps.Equal(e.ClaimedLabels, map[string]string{"role": "web", "claim": hostile}) {
			t.Errorf("%s has the labels %v and claims %v", hostile, e.Labels, e.ClaimedLabels)
		}
		want := []string{web}
		for i, selection := range []string{`"labels":"role=web"`, `"labels":"role=web","rollout":{"canary":1,"order":"name"}`} {
			task := f.post("ping", fmt.Sprintf(`{"identifier":"%d","payload":"secret",%s}`, i, selection))
			a := f.waitFinished(task)
			if !slices.Equal(task.Endpoints, want) || a.Task.Status != tasker.TaskSucceeded || len(a.Responses) != 1 {
				t.Errorf("%s: task for %v: %+v", selection, task.Endpoints, a)
			}
		}
		if code := f.call(http.MethodPost, "/ping", `{"identifier":"x","labels":"claim=`+hostile+`"}`, nil); code != http.StatusUnprocessableEntity {
			t.Errorf("a selector of a claim: %d, want 422", code)
		}
		if code := f.call(http.MethodPost, "/endpoints/"+hostile+"/labels", `{"set":{"role":"web"}}`, nil); code != http.StatusOK {
			t.Fatalf("POST labels answered %d", code)
		}
		if task := f.post("ping", `{"identifier":"both","labels":"role=web"}`); !slices.Equal(task.Endpoints, []string{hostile, web}) {
			t.Errorf("after an admin has labelled %s, the task is for %v", hostile, task.Endpoints)
		}
	})
}
