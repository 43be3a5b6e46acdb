package hosts

import (
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

const (
	three = "loadbalancer-3"
	four  = "loadbalancer-4"
)

// An application is updated in waves while it is in use: with a good release, a bad one, one
// that is bad on some hosts, and one while a host is off.
func TestRollout(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP(), one, two, three, four)
	m := newMirror(f)
	for _, host := range f.agents {
		f.put(host, webUnitFile, webUnit, "644")
		f.sh(host, "systemctl enable --quiet app")
	}
	if a := f.waitFinished(f.post(artifactType, "first", m.publish("1.0", ""), f.agents...)); a.Task.Status != tasker.TaskSucceeded {
		t.Fatalf("the first release: %+v", a)
	}
	v := visit(t, newBalancer(f.lab, f.agents...))
	in := func(more map[string]any) map[string]any {
		spec := map[string]any{"canary": 1, "batch": "50%"}
		for name, value := range more {
			spec[name] = value
		}
		return spec
	}

	a := f.rollOut(m.publish("1.1", ""), in(nil), tasker.TaskSucceeded, tasker.RolloutFinished)
	f.checkWaves(a, 1, 2, 1)
	f.checkServing("1.1", f.agents...)
	v.checkAnswered(t, "a good release")

	a = f.rollOut(m.publish("1.2", unhealthy), in(nil), tasker.TaskFailed, tasker.RolloutStopped)
	f.checkStoppedAtCanary(a, tasker.Failed, "switched back to 1.1, which works")
	f.checkServing("1.1", f.agents...)
	v.checkAnswered(t, "a bad release")

	onThree := "open my $h, '<', '/etc/hostname'; $code = 500 if <$h> =~ /loadbalancer-3/;"
	a = f.rollOut(m.publish("1.3", onThree), in(map[string]any{"on_failure": "rollback"}), tasker.TaskFailed, tasker.RolloutStopped)
	if a.response(t, one).Status != tasker.Succeeded || a.response(t, two).Status != tasker.Succeeded ||
		a.response(t, three).Status != tasker.Failed || a.response(t, four).Status != tasker.Skipped {
		t.Errorf("one that is bad on some hosts: %+v", a)
	}
	undo := f.waitFinished(tasker.Task{Type: artifactType, ID: a.Task.Rollout.Rollback, Identifier: "the undoing"})
	if undo.Task.Status != tasker.TaskSucceeded || undo.Task.Undoes != a.Task.ID || !slices.Equal(undo.Task.Endpoints, []string{one, two, three}) {
		t.Errorf("what undoes it: %+v", undo)
	}
	f.checkServing("1.1", f.agents...)
	f.checkWithout("1.3", four)
	v.checkAnswered(t, "a rollback")

	f.do("cut", one)
	a = f.rollOut(m.publish("1.4", ""), in(nil), tasker.TaskIncomplete, tasker.RolloutStopped)
	f.checkStoppedAtCanary(a, tasker.Missing, "")
	f.checkServing("1.1", two, three, four)
	a = f.rollOut(m.publish("1.5", ""), in(map[string]any{"max_failures": 1}), tasker.TaskIncomplete, tasker.RolloutFinished)
	if a.Task.Counts[tasker.Missing] != 1 || a.Task.Counts[tasker.Succeeded] != 3 || a.response(t, one).Status != tasker.Missing {
		t.Errorf("with a host that is off: %+v", a)
	}
	f.checkServing("1.5", two, three, four)
	v.checkAnswered(t, "a host that is switched off")

	// After its start, the host is not updated without a retry.
	f.boot(one)
	wait.For(t, "the application to be up again", func() bool { return f.appResponse(one) == "1.1" })
	if code := f.call(http.MethodPost, "/"+artifactType+"/"+a.Task.ID+"/retry", "", nil); code/100 != 2 {
		t.Fatalf("retry answered %d", code)
	}
	if a = f.waitRolloutEnd(a.Task); a.Task.Status != tasker.TaskSucceeded || !slices.Equal(a.Task.Rollout.Waves, []int{1}) || a.response(t, four).Wave != 0 {
		t.Errorf("retried with the host that was off: %+v", a)
	}
	f.checkServing("1.5", f.agents...)
	f.checkWithout("1.4", f.agents...)
	v.checkAnswered(t, "a host that is switched on again")

	f.deadMirror(m.publish("1.6", ""))
	random := make([]byte, 512<<10)
	_, _ = rand.Read(random)
	f.fullDisk(m.publish("1.7", "# "+hex.EncodeToString(random)+"\n"))
	f.checkServing("1.5", f.agents...)
	v.checkAnswered(t, "a dead mirror and a full disk")
}

// deadMirror deploys from a mirror that does not respond.
func (f *fleet) deadMirror(release map[string]any) {
	f.t.Helper()
	release["url"] = "http://gateway:9/app.tar.gz"
	a := f.waitFinished(f.request(artifactType, map[string]any{"identifier": "dead", "payload": release, "endpoints": f.agents, "timeout": "10s"}))
	for _, r := range a.Responses {
		if r.Status != tasker.Failed || !strings.Contains(r.Error, "gave up on http://gateway:9/app.tar.gz") || !strings.Contains(r.Error, "connection refused") {
			f.t.Errorf("from a mirror that is dead: %+v", r)
		}
	}
	f.checkWithout("1.6", f.agents...)
}

// fullDisk deploys to a disk that is too small for the release.
func (f *fleet) fullDisk(release map[string]any) {
	f.t.Helper()
	f.sh(four, "mount -t tmpfs -o size=512k,mode=755 small /mnt; cp -a /srv/app/. /mnt; mount --bind /mnt /srv/app")
	before := f.sh(four, "cd /srv/app; ls -AR; readlink current")
	r := f.waitFinished(f.post(artifactType, "full", release, four)).response(f.t, four)
	if r.Status != tasker.Failed || !strings.Contains(r.Error, "free some space") {
		f.t.Errorf("deployment to a full disk: %+v", r)
	}
	if after := f.sh(four, "cd /srv/app; ls -AR; readlink current"); after != before {
		f.t.Errorf("in the directory was\n%s\nand is\n%s", before, after)
	}
}

// rollOut posts a rollout of a release to all hosts and waits until it has ended.
func (f *fleet) rollOut(release, spec map[string]any, status tasker.TaskStatus, state tasker.RolloutState) answer {
	f.t.Helper()
	task := f.request(artifactType, map[string]any{
		"identifier": release["version"], "payload": release, "endpoints": f.agents, "receive_timeout": "10s", "rollout": spec,
	})
	a := f.waitRolloutEnd(task)
	if a.Task.Status != status || a.Task.Rollout.State != state {
		f.t.Fatalf("the rollout of %s is %s, its task %s, want %s, %s: %+v", task.Identifier, a.Task.Rollout.State, a.Task.Status, state, status, a)
	}
	return a
}

// waitRolloutEnd waits until a rollout and its running tasks have ended.
func (f *fleet) waitRolloutEnd(task tasker.Task) answer {
	f.t.Helper()
	var a answer
	wait.For(f.t, "the rollout of "+task.Identifier+" to be over", func() bool {
		a = f.get(task)
		return a.Task.FinishedAt != nil && a.Task.Rollout.State.Ended()
	})
	return a
}

// checkWaves checks that endpoints were changed in waves of these sizes, each after the end
// of the one before.
func (f *fleet) checkWaves(a answer, sizes ...int) {
	f.t.Helper()
	if !slices.Equal(a.Task.Rollout.Waves, sizes) {
		f.t.Errorf("the waves are %v, want %v", a.Task.Rollout.Waves, sizes)
	}
	at := 0
	var ended time.Time // the last of the wave before
	for i, size := range sizes {
		last := ended
		for _, host := range f.agents[at : at+size] {
			r := a.response(f.t, host)
			if r.Status != tasker.Succeeded || r.Wave != i+1 || r.StartedAt.Before(ended) {
				f.t.Errorf("%s is %+v, want it in wave %d, after %s", host, r, i+1, ended)
			}
			if r.FinishedAt.After(last) {
				last = *r.FinishedAt
			}
		}
		at, ended = at+size, last
	}
}

// checkStoppedAtCanary checks that the first endpoint failed, and that the others never got
// the release.
func (f *fleet) checkStoppedAtCanary(a answer, status tasker.ResponseStatus, why string) {
	f.t.Helper()
	const reason = "1 of 4 failed (" + one + "); at most 0 may"
	if r := a.response(f.t, one); r.Status != status || !strings.Contains(r.Error, why) {
		f.t.Errorf("the canary is %+v, want %s with %q", r, status, why)
	}
	if a.Task.Rollout.Reason != reason || a.Task.Rollout.Wave != 1 {
		f.t.Errorf("the rollout stopped in wave %d as %q, want %q", a.Task.Rollout.Wave, a.Task.Rollout.Reason, reason)
	}
	for _, host := range f.agents[1:] {
		if r := a.response(f.t, host); r.Status != tasker.Skipped || r.Reason != reason || r.SentAt != nil {
			f.t.Errorf("%s is %+v, want it skipped", host, r)
		}
	}
	f.checkWithout(a.Task.Identifier, f.agents[1:]...)
}

// checkWithout checks that hosts never had a release.
func (f *fleet) checkWithout(version string, hosts ...string) {
	f.t.Helper()
	for _, host := range hosts {
		if got := f.sh(host, "find /srv/app -name '*"+version+"*'"); got != "" {
			f.t.Errorf("%s has %s", host, got)
		}
	}
}

// checkServing checks the version that hosts respond with.
func (f *fleet) checkServing(version string, hosts ...string) {
	f.t.Helper()
	for _, host := range hosts {
		if output := f.appResponse(host); output != version {
			f.t.Errorf("%s answers %q, want %s", host, output, version)
		}
	}
}

// appResponse returns the response of the application on a host, or an error.
func (f *fleet) appResponse(host string) string {
	f.t.Helper()
	output, err := get(f.t.Context(), &http.Transport{DialContext: f.dial, DisableKeepAlives: true}, "http://"+f.do("ip", host)+":8080/")
	if err != nil {
		return err.Error()
	}
	return output
}

// mirror is a server from which hosts download releases.
type mirror struct {
	t    *testing.T
	base string

	mu       sync.Mutex
	archives map[string][]byte
}

func newMirror(f *fleet) *mirror {
	f.t.Helper()
	m := &mirror{t: f.t, archives: map[string][]byte{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if archive, ok := m.archives[r.URL.Path]; ok {
			_, _ = w.Write(archive)
			return
		}
		http.NotFound(w, r)
	}))
	f.t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		f.t.Fatal(err)
	}
	f.do("bridge", at.Port())
	m.base = "http://" + net.JoinHostPort("gateway", at.Port())
	return m
}

// publish adds a release and returns the payload that deploys it.
func (m *mirror) publish(version, before string) map[string]any {
	m.t.Helper()
	path := "/app-" + version + ".tar.gz"
	archive := newArchive(m.t, version, before)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.archives[path] = archive
	return deployment(m.base+path, version, archive)
}
