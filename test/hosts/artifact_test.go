package hosts

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

const artifactType = "artifact"

// webApp is a web application that responds with its version. Code before its loop makes it
// fail.
const webApp = `#!/usr/bin/perl
use strict;
use IO::Socket::INET;
my $code = 200;
BEFORE
my $listener = IO::Socket::INET->new(LocalAddr => '0.0.0.0:8080', Listen => 10, ReuseAddr => 1) or die "no port: $!";
open my $file, '<', 'VERSION' or die;
my $version = <$file>;
while (my $client = $listener->accept) {
	1 while defined($_ = <$client>) && /\S/;
	print $client "HTTP/1.0 $code Said\r\n\r\n$version";
	close $client;
}
`

// unhealthy is code for an application that never becomes healthy.
const unhealthy = "$code = 500; print STDERR qq(the database is gone\\n);"

const webUnitFile = "/etc/systemd/system/app.service"

const webUnit = `[Service]
WorkingDirectory=/srv/app/current
ExecStart=/srv/app/current/bin/app
Restart=no
[Install]
WantedBy=multi-user.target
`

// Deployments of a web application: a good version, bad ones that are replaced by the old one
// again, and one whose agent is killed meanwhile.
func TestArtifact(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP())
	f.put(one, webUnitFile, webUnit, "644")

	r, u := f.waitUpdate(f.post(artifactType, "unhealthy-first", f.release("0.9", unhealthy), one))
	if r.Status != tasker.Failed || u != (update{To: "0.9", SwitchedBack: true}) || !strings.Contains(r.Error, "switched back to no release") {
		t.Errorf("%+v: %+v", u, r)
	}
	if got := f.sh(one, "systemctl is-active app || ls /srv/app"); got != "inactive\nreleases" {
		t.Errorf("after a first release that is not healthy: %s", got)
	}
	f.checkDeployed(f.post(artifactType, "first", f.release("1.0", ""), one), "", "1.0")
	f.checkDeployed(f.post(artifactType, "second", f.release("1.1", ""), one), "1.0", "1.1")
	f.checkDeployed(f.post(artifactType, "again", f.release("1.1", ""), one), "1.1", "1.1")

	f.checkSwitchedBack(f.post(artifactType, "unhealthy", f.release("1.2", unhealthy), one), "1.1", "http://127.0.0.1:8080/ responded with 500 Said", "the database is gone")
	f.checkSwitchedBack(f.post(artifactType, "broken", f.release("1.3", "die 'no library';"), one), "1.1", "app.service did not ", "no library")

	other := f.release("1.4", "")
	other["unit"] = "tasker-agent.service"
	if r := f.waitFinished(f.post(artifactType, "other-unit", other, one)).response(t, one); r.Status != tasker.Rejected || !strings.Contains(r.Reason, "handlers.service.allow") {
		t.Errorf("another unit: %+v", r)
	}

	// It becomes healthy only after the kill of the agent.
	late := f.release("1.5", "$code = 503 unless -e '/run/killed';")
	late["health"] = map[string]any{"http": "http://127.0.0.1:8080/", "retries": 1000, "interval": "100ms"}
	task := f.post(artifactType, "killed", late, one)
	wait.For(t, "1.5 to be current", func() bool {
		return strings.HasSuffix(f.sh(one, "readlink /srv/app/current"), "1.5")
	})
	f.sh(one, "touch /run/killed; systemctl kill --signal=KILL --kill-whom=main "+agent)
	f.checkDeployed(task, "1.1", "1.5")
	if got := f.sh(one, "ls -A /srv/app/.tasker"); got != "lock\nreleases" {
		t.Errorf("left behind: %s", got)
	}
}

// newArchive returns an archive with a release of the application.
func newArchive(t *testing.T, version, before string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, file := range [][2]string{{"VERSION", version}, {"bin/app", strings.Replace(webApp, "BEFORE", before, 1)}} {
		err := w.WriteHeader(&tar.Header{Name: file[0], Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(file[1]))})
		if err == nil {
			_, err = w.Write([]byte(file[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// deployment returns the payload that deploys an archive.
func deployment(url, version string, archive []byte) map[string]any {
	sum := sha256.Sum256(archive)
	return map[string]any{
		"url": url, "sha256": hex.EncodeToString(sum[:]), "version": version, "directory": "/srv/app", "unit": "app.service",
		"health": map[string]any{"http": "http://127.0.0.1:8080/", "retries": 5, "interval": "200ms"},
	}
}

// release copies a release of the application to the first host, and returns its payload.
func (f *fleet) release(version, before string) map[string]any {
	f.t.Helper()
	archive := newArchive(f.t, version, before)
	path := "/var/tmp/app-" + version + ".tar.gz"
	f.put(one, path, string(archive), "600")
	return deployment("file://"+path, version, archive)
}

// update is the result of the handler.
type update struct {
	Changed      bool
	From         string
	To           string
	Current      string
	SwitchedBack bool `json:"switched_back"`
}

// waitUpdate waits for the end of a deployment.
func (f *fleet) waitUpdate(task tasker.Task) (tasker.Response, update) {
	f.t.Helper()
	r := f.waitFinished(task).response(f.t, one)
	var u update
	if err := json.Unmarshal(r.Result, &u); err != nil {
		f.t.Fatalf("%s: %v in %s: %+v", task.Identifier, err, r.Result, r)
	}
	return r, u
}

func (f *fleet) checkDeployed(task tasker.Task, from, to string) {
	f.t.Helper()
	r, u := f.waitUpdate(task)
	if want := (update{Changed: from != to, From: from, To: to, Current: to}); r.Status != tasker.Succeeded || u != want {
		f.t.Errorf("%s: %+v, want %+v: %+v\n%s", task.Identifier, u, want, r, f.output(task))
	}
	f.checkApp(to)
}

func (f *fleet) checkSwitchedBack(task tasker.Task, to string, why ...string) {
	f.t.Helper()
	r, u := f.waitUpdate(task)
	if r.Status != tasker.Failed || u.Changed || !u.SwitchedBack || u.Current != to {
		f.t.Errorf("%s: %+v: %+v", task.Identifier, u, r)
	}
	for _, part := range append(why, "switched back to "+to+", which works") {
		if !strings.Contains(r.Error, part) {
			f.t.Errorf("%s reports %q, want %q", task.Identifier, r.Error, part)
		}
	}
	f.checkApp(to)
}

// checkApp checks the version that the application responds with.
func (f *fleet) checkApp(version string) {
	f.t.Helper()
	got := f.do("exec", one, "bash", "-euc", `exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET / HTTP/1.0\r\n\r\n' >&3; cat <&3`)
	if !strings.HasPrefix(got, "HTTP/1.0 200") || !strings.HasSuffix(got, version) {
		f.t.Errorf("the application responds with %q, want %s", got, version)
	}
}
