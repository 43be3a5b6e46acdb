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

// An application is updated in waves while people use it: a good release, a bad one,
// one that is bad on some hosts only, and one while a host is switched off.
func TestRollout(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP(), one, two, three, four)
	m := newMirror(f)
	for _, host := range f.agents {
		f.put(host, webUnitFile, webUnit, "644")
		f.sh(host, "systemctl enable --quiet app")
	}
	if a := f.ends(f.post(artifactType, "first", m.offer("1.0", ""), f.agents...)); a.Task.Status != tasker.TaskSucceeded {
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

	a := f.rolled(m.offer("1.1", ""), in(nil), tasker.TaskSucceeded, tasker.RolloutFinished)
	f.inWaves(a, 1, 2, 1)
	f.serve("1.1", f.agents...)
	v.answered(t, "a good release")

	a = f.rolled(m.offer("1.2", sick), in(nil), tasker.TaskFailed, tasker.RolloutStopped)
	f.stoppedAtCanary(a, tasker.Failed, "switched back to 1.1, which works")
	f.serve("1.1", f.agents...)
	v.answered(t, "a bad release")

	onThree := "open my $h, '<', '/etc/hostname'; $code = 500 if <$h> =~ /loadbalancer-3/;"
	a = f.rolled(m.offer("1.3", onThree), in(map[string]any{"on_failure": "rollback"}), tasker.TaskFailed, tasker.RolloutStopped)
	if a.of(t, one).Status != tasker.Succeeded || a.of(t, two).Status != tasker.Succeeded ||
		a.of(t, three).Status != tasker.Failed || a.of(t, four).Status != tasker.Skipped {
		t.Errorf("one that is bad on some hosts: %+v", a)
	}
	undo := f.ends(tasker.Task{Type: artifactType, ID: a.Task.Rollout.Rollback, Identifier: "the undoing"})
	if undo.Task.Status != tasker.TaskSucceeded || undo.Task.Undoes != a.Task.ID || !slices.Equal(undo.Task.Endpoints, []string{one, two, three}) {
		t.Errorf("what undoes it: %+v", undo)
	}
	f.serve("1.1", f.agents...)
	f.without("1.3", four)
	v.answered(t, "a rollback")

	f.do("cut", one)
	a = f.rolled(m.offer("1.4", ""), in(nil), tasker.TaskIncomplete, tasker.RolloutStopped)
	f.stoppedAtCanary(a, tasker.Missing, "")
	f.serve("1.1", two, three, four)
	a = f.rolled(m.offer("1.5", ""), in(map[string]any{"max_failures": 1}), tasker.TaskIncomplete, tasker.RolloutFinished)
	if a.Task.Counts[tasker.Missing] != 1 || a.Task.Counts[tasker.Succeeded] != 3 || a.of(t, one).Status != tasker.Missing {
		t.Errorf("with a host that is off: %+v", a)
	}
	f.serve("1.5", two, three, four)
	v.answered(t, "a host that is switched off")

	// It is not changed behind anybody's back when it is switched on again.
	f.boots(one)
	wait.For(t, "the application to be up again", func() bool { return f.says(one) == "1.1" })
	if code := f.call(http.MethodPost, "/"+artifactType+"/"+a.Task.ID+"/retry", "", nil); code/100 != 2 {
		t.Fatalf("retry answered %d", code)
	}
	if a = f.over(a.Task); a.Task.Status != tasker.TaskSucceeded || !slices.Equal(a.Task.Rollout.Waves, []int{1}) || a.of(t, four).Wave != 0 {
		t.Errorf("retried with the host that was off: %+v", a)
	}
	f.serve("1.5", f.agents...)
	f.without("1.4", f.agents...)
	v.answered(t, "a host that is switched on again")

	f.deadMirror(m.offer("1.6", ""))
	random := make([]byte, 512<<10)
	_, _ = rand.Read(random)
	f.fullDisk(m.offer("1.7", "# "+hex.EncodeToString(random)+"\n"))
	f.serve("1.5", f.agents...)
	v.answered(t, "a dead mirror and a full disk")
}

// deadMirror deploys from where nobody answers.
func (f *fleet) deadMirror(release map[string]any) {
	f.t.Helper()
	release["url"] = "http://gateway:9/app.tar.gz"
	a := f.ends(f.request(artifactType, map[string]any{"identifier": "dead", "payload": release, "endpoints": f.agents, "timeout": "10s"}))
	for _, r := range a.Responses {
		if r.Status != tasker.Failed || !strings.Contains(r.Error, "gave up on http://gateway:9/app.tar.gz") || !strings.Contains(r.Error, "connection refused") {
			f.t.Errorf("from a mirror that is dead: %+v", r)
		}
	}
	f.without("1.6", f.agents...)
}

// fullDisk deploys to a disk on which the release does not fit.
func (f *fleet) fullDisk(release map[string]any) {
	f.t.Helper()
	f.sh(four, "mount -t tmpfs -o size=512k,mode=755 small /mnt; cp -a /srv/app/. /mnt; mount --bind /mnt /srv/app")
	before := f.sh(four, "cd /srv/app; ls -AR; readlink current")
	r := f.ends(f.post(artifactType, "full", release, four)).of(f.t, four)
	if r.Status != tasker.Failed || !strings.Contains(r.Error, "free some space") {
		f.t.Errorf("deployment to a full disk: %+v", r)
	}
	if after := f.sh(four, "cd /srv/app; ls -AR; readlink current"); after != before {
		f.t.Errorf("in the directory was\n%s\nand is\n%s", before, after)
	}
}

// rolled posts a rollout of a release to all hosts and waits until it is over.
func (f *fleet) rolled(release, spec map[string]any, status tasker.TaskStatus, state tasker.RolloutState) answer {
	f.t.Helper()
	task := f.request(artifactType, map[string]any{
		"identifier": release["version"], "payload": release, "endpoints": f.agents, "receive_timeout": "10s", "rollout": spec,
	})
	a := f.over(task)
	if a.Task.Status != status || a.Task.Rollout.State != state {
		f.t.Fatalf("the rollout of %s is %s, its task %s, want %s, %s: %+v", task.Identifier, a.Task.Rollout.State, a.Task.Status, state, status, a)
	}
	return a
}

// over waits until a rollout is over, and what ran of it has ended.
func (f *fleet) over(task tasker.Task) answer {
	f.t.Helper()
	var a answer
	wait.For(f.t, "the rollout of "+task.Identifier+" to be over", func() bool {
		a = f.get(task)
		return a.Task.FinishedAt != nil && a.Task.Rollout.State.Ended()
	})
	return a
}

// inWaves checks that endpoints were changed in waves of these sizes, in their order,
// each begun when the one before it had ended.
func (f *fleet) inWaves(a answer, sizes ...int) {
	f.t.Helper()
	if !slices.Equal(a.Task.Rollout.Waves, sizes) {
		f.t.Errorf("the waves are %v, want %v", a.Task.Rollout.Waves, sizes)
	}
	at := 0
	var ended time.Time // the last of the wave before
	for i, size := range sizes {
		last := ended
		for _, host := range f.agents[at : at+size] {
			r := a.of(f.t, host)
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

// stoppedAtCanary checks that the first endpoint failed, and the others never saw the
// release.
func (f *fleet) stoppedAtCanary(a answer, status tasker.ResponseStatus, why string) {
	f.t.Helper()
	const reason = "1 of 4 failed (" + one + "); at most 0 may"
	if r := a.of(f.t, one); r.Status != status || !strings.Contains(r.Error, why) {
		f.t.Errorf("the canary is %+v, want %s with %q", r, status, why)
	}
	if a.Task.Rollout.Reason != reason || a.Task.Rollout.Wave != 1 {
		f.t.Errorf("the rollout stopped in wave %d as %q, want %q", a.Task.Rollout.Wave, a.Task.Rollout.Reason, reason)
	}
	for _, host := range f.agents[1:] {
		if r := a.of(f.t, host); r.Status != tasker.Skipped || r.Reason != reason || r.SentAt != nil {
			f.t.Errorf("%s is %+v, want it skipped", host, r)
		}
	}
	f.without(a.Task.Identifier, f.agents[1:]...)
}

// without checks that hosts never had a release.
func (f *fleet) without(version string, hosts ...string) {
	f.t.Helper()
	for _, host := range hosts {
		if got := f.sh(host, "find /srv/app -name '*"+version+"*'"); got != "" {
			f.t.Errorf("%s has %s", host, got)
		}
	}
}

// serve checks the version that hosts answer with.
func (f *fleet) serve(version string, hosts ...string) {
	f.t.Helper()
	for _, host := range hosts {
		if said := f.says(host); said != version {
			f.t.Errorf("%s answers %q, want %s", host, said, version)
		}
	}
}

// says is what the application on a host answers, or why it does not.
func (f *fleet) says(host string) string {
	f.t.Helper()
	said, err := get(f.t.Context(), &http.Transport{DialContext: f.dial, DisableKeepAlives: true}, "http://"+f.do("ip", host)+":8080/")
	if err != nil {
		return err.Error()
	}
	return said
}

// mirror is from where hosts download releases.
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

// offer has a release and returns the payload that deploys it.
func (m *mirror) offer(version, before string) map[string]any {
	m.t.Helper()
	path := "/app-" + version + ".tar.gz"
	archive := packed(m.t, version, before)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.archives[path] = archive
	return deployment(m.base+path, version, archive)
}
