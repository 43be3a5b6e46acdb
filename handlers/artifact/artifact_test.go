package artifact_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers/artifact"
)

type files = map[string]string

func TestDeploy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.deploy("t1", "1.0", nil)
	f.wantOutcome(a, artifact.Outcome{Changed: true, To: "1.0", Current: "1.0"})
	f.wantLastLine(a, "1.0 is current")
	release := f.app() + "/releases/1.0"
	for _, hook := range []string{"before", "after"} {
		if line := fmt.Sprintf("%s 1.0 %s %[2]s t1\n", hook, release); !strings.Contains(a.output, line) {
			t.Errorf("the output has no line %q:\n%s", line, a.output)
		}
	}
	a = f.deploy("t2", "1.1", files{"link": "-> VERSION"})
	f.wantOutcome(a, artifact.Outcome{Changed: true, From: "1.0", To: "1.1", Current: "1.1"})
	a = f.deploy("t3", "1.1", files{"link": "-> VERSION"})
	f.wantOutcome(a, artifact.Outcome{From: "1.1", To: "1.1", Current: "1.1", Note: "1.1 is already current"})
	f.wantLastLine(a, "1.1 is already current")
	if strings.Contains(a.output, "hook") || strings.Contains(a.output, "restarting") {
		t.Errorf("the second task has changed something:\n%s", a.output)
	}
	// The same task again, as by an agent that was killed before it reported the result.
	a = f.deploy("t2", "1.1", files{"link": "-> VERSION"})
	f.wantOutcome(a, artifact.Outcome{Changed: true, From: "1.0", To: "1.1", Current: "1.1"})
	// Back to a release that is installed, so its file is not needed.
	p := f.payload("1.0", nil)
	p["url"] = "file:///no/such.tar.gz"
	a = f.do(t.Context(), call{task: "t4", payload: p})
	f.wantOutcome(a, artifact.Outcome{Changed: true, From: "1.1", To: "1.0", Current: "1.0"})
	f.wantCurrent("1.0")
	// A release that was removed is installed again.
	if err := os.RemoveAll(release); err != nil {
		t.Fatal(err)
	}
	a = f.deploy("t5", "1.0", nil)
	f.wantOutcome(a, artifact.Outcome{Changed: true, From: "1.0", To: "1.0", Current: "1.0"})
	// The health check also runs if nothing is to be done.
	if err := os.WriteFile(f.running(), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	a = f.do(t.Context(), call{task: "t6", payload: f.payload("1.0", nil)})
	f.wantError(a, "1.0 is not healthy: exit code 1; the last lines of the journal of app.service:\npanic:\nout of cheese")
	f.wantOutcome(a, artifact.Outcome{From: "1.0", To: "1.0", Current: "1.0", Step: "health", Note: "1.0 is already current"})
}

func TestDeployPlainFileOverHTTP(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const content = "#!/bin/sh\necho hello\n"
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Basic aHVudGVyMg==" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(content))
	}))
	t.Cleanup(mirror.Close)
	token := filepath.Join(f.home, "token")
	must(f.allow([]string{mirror.URL}, token))
	p := map[string]any{
		"url": mirror.URL + "/app?signature=hunter2", "sha256": strings.ToUpper(sum([]byte(content))), "version": "1", "directory": f.app(),
		"format": "plain", "name": "bin/app", "mode": "0775", "token_file": token,
		"health": map[string]any{"http": mirror.URL + "/?key=hunter2", "retries": 0, "timeout": "1m"},
	}
	f.wantError(f.do(t.Context(), call{task: "t1", payload: p}), token+": no such file or directory; put the token there")
	if err := os.WriteFile(token, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := f.do(t.Context(), call{task: "t1", payload: p})
	f.wantError(a, "responded with 401 Unauthorized: the server requires other credentials")
	if err := os.WriteFile(token, []byte("Basic aHVudGVyMg==\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := f.do(t.Context(), call{task: "t1", payload: p})
	f.wantError(b, "switched back to no release, as there was none before, because 1 is not healthy: "+mirror.URL+"/?… responded with 401")
	for _, text := range []string{a.output, a.err.Error(), b.output, b.err.Error()} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "aHVudGVyMg") {
			t.Errorf("a secret is in %s", text)
		}
	}
	p["health"] = map[string]any{"tcp": mirror.Listener.Addr().String()}
	a = f.do(t.Context(), call{task: "t2", payload: p})
	f.wantOutcome(a, artifact.Outcome{Changed: true, To: "1", Current: "1"})
	path := filepath.Join(f.app(), "current/bin/app")
	got, err := os.ReadFile(path)
	fi, statErr := os.Stat(path)
	if err != nil || statErr != nil || string(got) != content || fi.Mode() != 0o755 {
		t.Errorf("%s is %q, %v (%v)", path, got, fi.Mode(), errors.Join(err, statErr))
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	deploy := func(version string, keep int) {
		t.Helper()
		p := f.payload(version, nil)
		p["keep"] = keep
		if a := f.do(t.Context(), call{task: "t" + version, payload: p}); a.err != nil {
			t.Fatal(a.err)
		}
	}
	for i := range 7 {
		deploy(fmt.Sprint(i), 5)
	}
	must(os.Mkdir(f.app()+"/releases/foreign", 0o755))
	if got := f.releases(); got != "2 3 4 5 6 foreign" {
		t.Errorf("releases are %s", got)
	}
	deploy("2", 3)
	if got := f.releases(); got != "2 5 6 foreign" {
		t.Errorf("releases are %s", got)
	}
	deploy("7", 1)
	if got := f.releases(); got != "2 7 foreign" {
		t.Errorf("releases are %s", got)
	}
	f.wantCurrent("7")
}

// Deployments to the same directory wait for each other.
func TestConcurrentDeployments(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var group sync.WaitGroup
	waited := make(chan string, 1)
	second := f.payload("1.1", nil)
	a := f.do(t.Context(), call{task: "t1", payload: f.payload("1.0", nil), progress: func(message string) {
		if message == "unpacking 1.0" {
			group.Go(func() {
				b := f.do(t.Context(), call{task: "t2", payload: second, progress: func(message string) {
					if strings.HasPrefix(message, "waiting for another deployment") {
						select {
						case waited <- message:
						default:
						}
					}
				}})
				f.wantOutcome(b, artifact.Outcome{Changed: true, From: "1.0", To: "1.1", Current: "1.1"})
			})
			<-waited
		}
	}})
	group.Wait()
	f.wantOutcome(a, artifact.Outcome{Changed: true, To: "1.0", Current: "1.0"})
	f.wantCurrent("1.1")
}
