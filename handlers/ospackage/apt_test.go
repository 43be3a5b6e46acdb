package ospackage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// repository is the only repository of the server, at a file: or an http: address.
type repository struct {
	t   *testing.T
	dir string
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	r := &repository{t: t, dir: t.TempDir()}
	sh(t, "chmod 755 "+filepath.Dir(r.dir)+" "+r.dir)
	r.setAddress("file:" + r.dir)
	t.Cleanup(func() {
		sh(t, "apt-mark unhold 'tt-*' >/dev/null 2>&1 || true; dpkg --purge --force-all $(dpkg-query --show --showformat='${Package}\n' 'tt-*' 2>/dev/null) >/dev/null 2>&1 || true; rm -f /etc/apt/sources.list; apt-get update -qq; apt-get clean")
	})
	return r
}

func (r *repository) setAddress(address string) {
	r.t.Helper()
	sh(r.t, "rm -rf /etc/apt/sources.list.d; echo 'deb [trusted=yes] "+address+" ./' >/etc/apt/sources.list")
}

// offer adds packages to the repository, like "tt-app 1.0-1". A third part of the text is
// added to the control file; what follows postinst: is added to the maintainer script.
func (r *repository) offer(packages ...string) {
	r.t.Helper()
	for _, p := range packages {
		words := strings.SplitN(p, " ", 3)
		more, script := "", "exit 0"
		if len(words) == 3 {
			more = words[2]
			if before, after, ok := strings.Cut(more, "postinst:"); ok {
				more, script = before, after
			}
		}
		sh(r.t, fmt.Sprintf(`d=$(mktemp -d); mkdir -p $d/DEBIAN $d/etc $d/usr/share/%[1]s; echo %[2]s >$d/usr/share/%[1]s/version; echo "default of %[2]s" >$d/etc/%[1]s.conf; echo /etc/%[1]s.conf >$d/DEBIAN/conffiles
printf 'Package: %[1]s\nVersion: %[2]s\nArchitecture: all\nMaintainer: none <none@example.net>\nDescription: a test\n%[3]s\n' >$d/DEBIAN/control; sed -i '/^$/d' $d/DEBIAN/control
printf '#!/bin/sh\n%%s\n' '%[4]s' >$d/DEBIAN/postinst; chmod 755 $d/DEBIAN/postinst $d
dpkg-deb --build --root-owner-group $d %[5]s >/dev/null; rm -r $d`, words[0], words[1], more, script, r.dir))
	}
	sh(r.t, "cd "+r.dir+`; : >Packages; for p in *.deb; do { dpkg-deb --field $p; echo "Filename: ./$p"; echo "Size: $(stat -c %s $p)"; echo "SHA256: $(sha256sum $p | cut -d' ' -f1)"; echo; } >>Packages; done`)
}

func TestAptPerformAndUndo(t *testing.T) {
	a := newAgent(t, "tt-*")
	r := newRepository(t)
	r.offer("tt-app 1.0-1", "tt-app 1:2.0-1 Depends: tt-lib", "tt-lib 1-1", "tt-alone 3-1")
	steps := []struct{ payload, dryRun, want, again, undone string }{
		{
			`{"packages":[{"name":"tt-app","version":"1.0"},{"name":"tt-alone"}]}`, "",
			"changed tt-app >1.0-1 tt-alone >3-1", "same tt-app 1.0-1>1.0-1 tt-alone 3-1>3-1", "changed tt-app 1.0-1> tt-alone 3-1>",
		},
		{
			`{"packages":[{"name":"tt-app","version":"1.0-1"}],"hold":true}`, "dry run changed tt-app >1.0-1!",
			"changed tt-app >1.0-1!", "same tt-app 1.0-1>1.0-1!", "",
		},
		{
			`{"packages":[{"name":"tt-app"}],"state":"latest","hold":true}`, "dry run changed tt-app 1.0-1>1:2.0-1! tt-lib >1-1*",
			"changed tt-app 1.0-1>1:2.0-1! tt-lib >1-1*", "same tt-app 1:2.0-1>1:2.0-1!", "changed tt-app 1:2.0-1>1.0-1! tt-lib 1-1>*",
		},
		{
			`{"packages":[{"name":"tt-app","version":"2.0-1"}],"hold":false}`, "dry run changed tt-app 1.0-1>1:2.0-1 tt-lib >1-1*",
			"changed tt-app 1.0-1>1:2.0-1 tt-lib >1-1*", "same tt-app 1:2.0-1>1:2.0-1", "changed tt-app 1:2.0-1>1.0-1! tt-lib 1-1>*",
		},
		{
			`{"packages":[{"name":"tt-app"}],"hold":false}`, "dry run changed tt-app 1.0-1>1.0-1",
			"changed tt-app 1.0-1>1.0-1", "same tt-app 1.0-1>1.0-1", "",
		},
		{
			`{"packages":[{"name":"tt-app"},{"name":"tt-alone"}],"state":"absent"}`, "dry run changed tt-app 1.0-1> tt-alone >",
			"changed tt-app 1.0-1> tt-alone >", "same tt-app > tt-alone >", "changed tt-app >1.0-1 tt-alone >",
		},
	}
	for _, s := range steps {
		check := func(what, want string, o Outcome, err error) {
			t.Helper()
			if got := summary(o); err != nil || got != want {
				t.Errorf("%s of %s:\ngot  %s, %v\nwant %s\n%s", what, s.payload, got, err, want, a.out)
			}
		}
		if s.dryRun != "" { // The first step has no package lists yet.
			_, o, err := a.call(t.Context(), s.payload, dryRun)
			check("dry run", s.dryRun, o, err)
		}
		id, o, err := a.call(t.Context(), s.payload)
		check("first", s.want, o, err)
		_, o, err = a.call(t.Context(), s.payload)
		check("second", s.again, o, err)
		if s.undone == "" {
			continue
		}
		_, o, err = a.call(t.Context(), s.payload, undo(id))
		check("undo", s.undone, o, err)
		_, o, err = a.call(t.Context(), s.payload, undo(id))
		check("second undo", "same", o, err)
		if o.Reason == "" {
			t.Errorf("the second undo has no reason: %+v", o)
		}
	}
	// An edited configuration file does not change.
	sh(t, "apt-get install -qq -y tt-app=1.0-1; echo edited >/etc/tt-app.conf")
	if _, o, err := a.call(t.Context(), `{"packages":[{"name":"tt-app"}],"state":"latest"}`); err != nil || sh(t, "cat /etc/tt-app.conf") != "edited" {
		t.Errorf("%s, %v, the configuration is %s", summary(o), err, sh(t, "cat /etc/tt-app.conf"))
	}
}

func TestAptFailures(t *testing.T) {
	a := newAgent(t, "tt-*")
	r := newRepository(t)
	r.offer("tt-app 1.0-1", "tt-app 2.0-1 postinst:echo no such database >&2; exit 3", "tt-user 1-1 Depends: tt-app")
	fails := func(payload, want, outcome string) {
		t.Helper()
		if _, o, err := a.call(t.Context(), payload); err == nil || !strings.Contains(err.Error(), want) || summary(o) != outcome {
			t.Errorf("%s:\ngot  %s, %v\nwant %s, …%s…\n%s", payload, summary(o), err, outcome, want, a.out)
		}
	}
	fails(`{"packages":[{"name":"tt-app","version":"7"}]}`,
		"version 7 of tt-app is not in the repositories of this server (available: 2.0-1, 1.0-1); add it to one of them, or choose another version; no package was changed", "same tt-app >")
	fails(`{"packages":[{"name":"tt-nothing"}]}`, "the repositories of this server have no package tt-nothing: correct the name, or add a repository that has it; no package was changed", "same tt-nothing >")

	// A maintainer script fails; an undo installs the older version again.
	sh(t, "apt-get install -qq -y tt-app=1.0-1")
	id, o, err := a.call(t.Context(), `{"packages":[{"name":"tt-app"}],"state":"latest"}`)
	if err == nil || summary(o) != "changed tt-app 1.0-1>2.0-1 half-configured" || !strings.Contains(err.Error(), "installed tt-app package post-installation script subprocess returned error exit status 3") ||
		!strings.Contains(err.Error(), "tt-app is at version 2.0-1 and not completely installed (half-configured), undo the task") || !strings.Contains(a.out.String(), "no such database") {
		t.Errorf("%s, %v\n%s", summary(o), err, a.out)
	}
	if _, o, err = a.call(t.Context(), `{"packages":[{"name":"tt-app"}],"state":"latest"}`, undo(id)); err != nil || summary(o) != "changed tt-app 2.0-1>1.0-1" {
		t.Errorf("%s, %v\n%s", summary(o), err, a.out)
	}
	// dpkg was interrupted, and a package was left unpacked.
	sh(t, "dpkg --unpack "+r.dir+"/tt-app_1.0-1_all.deb; printf 'Package: tt-app\nStatus: install ok unpacked\nVersion: 1.0-1\nMaintainer: none <none@example.net>\nArchitecture: all\nDescription: a test\n' >/var/lib/dpkg/updates/0000")
	if _, o, err = a.call(t.Context(), `{"packages":[{"name":"tt-app"}]}`); err != nil || summary(o) != "changed tt-app 1.0-1>1.0-1" {
		t.Errorf("%s, %v\n%s", summary(o), err, a.out)
	}
	// A package that depends on the removed one is removed too only if that is allowed.
	sh(t, "apt-get install -qq -y tt-user")
	b := newAgent(t, "tt-app")
	var reject *handlers.RejectError
	if _, _, err := b.call(t.Context(), `{"packages":[{"name":"tt-app"}],"state":"absent"}`); !errors.As(err, &reject) || !strings.Contains(err.Error(), "tt-user (1-1) would be removed, too") {
		t.Errorf("got %v", err)
	}
	// A held package changes only if the task mentions the hold.
	sh(t, "apt-mark hold tt-app")
	if _, _, err := a.call(t.Context(), `{"packages":[{"name":"tt-app"}],"state":"latest"}`); !errors.As(err, &reject) || !strings.Contains(err.Error(), "tt-app is held at 1.0-1") {
		t.Errorf("got %v", err)
	}
	// An unreachable mirror, before and after its lists were fetched.
	r.setAddress("http://127.0.0.1:9/debian")
	fails(`{"packages":[{"name":"tt-user"}],"state":"latest"}`, "Failed to fetch http://127.0.0.1:9/debian/", "same tt-user 1-1>1-1")
	fails(`{"packages":[{"name":"tt-new"}]}`, "the lists of packages could not be fetched: /usr/bin/apt-get failed with exit code 100: E: Failed to fetch http://127.0.0.1:9/debian/", "same tt-new >")
	fails(`{"packages":[{"name":"tt-app","version":"3.0"}],"hold":true}`, "Could not connect to 127.0.0.1:9", "same tt-app 1.0-1>1.0-1!")
	sh(t, "rm -f /var/lib/apt/lists/*Packages*; cp "+r.dir+"/Packages /var/lib/apt/lists/127.0.0.1:9_debian_._Packages; apt-get remove -qq -y tt-user")
	fails(`{"packages":[{"name":"tt-user"}],"update":false}`, "download the packages: ", "same tt-user >")
}

// lock holds a lock of dpkg until release is called.
func lock(t *testing.T, path string) (pid string, release func()) {
	t.Helper()
	dir := t.TempDir()
	held, free := filepath.Join(dir, "held"), filepath.Join(dir, "free")
	sh(t, `systemd-run --quiet --collect --unit=tt-lock python3 -c '
import fcntl, os, time
lock = open("`+path+`", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
open("`+held+`", "w").write(str(os.getpid()))
while not os.path.exists("`+free+`"):
	time.sleep(0.05)
'; until [ -s `+held+` ]; do sleep 0.05; done`)
	return sh(t, "cat "+held), func() {
		sh(t, "touch "+free+"; while systemctl is-active --quiet tt-lock; do sleep 0.05; done")
	}
}

func TestAptLocks(t *testing.T) {
	a := newAgent(t, "tt-*")
	r := newRepository(t)
	r.offer("tt-app 1.0-1")
	for _, path := range []string{"/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock"} {
		pid, release := lock(t, path)
		holder := "process " + pid + " (/usr/bin/python3 -c import fcntl"
		_, o, err := a.call(t.Context(), `{"packages":[{"name":"tt-app"}],"lock_timeout":"700ms"}`)
		if err == nil || !strings.Contains(err.Error(), "another package manager is running, and did not end within 700ms: "+holder) ||
			!strings.Contains(err.Error(), "holds "+path) || !strings.HasSuffix(err.Error(), "no package was changed") || o.Changed {
			t.Errorf("%s: %s, %v", path, summary(o), err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), 500*time.Millisecond, handlers.ErrCancelled)
		if _, o, err = a.call(ctx, `{"packages":[{"name":"tt-app"}]}`); !errors.Is(err, handlers.ErrCancelled) || o.Changed {
			t.Errorf("%s: %s, %v", path, summary(o), err)
		}
		cancel()
		a.progress = nil
		done := make(chan error, 1)
		go func() {
			_, _, err := a.call(t.Context(), `{"packages":[{"name":"tt-app"}]}`)
			done <- err
		}()
		wait.For(t, "the progress message about the lock", func() bool { return a.hasReported(holder) })
		release()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", path, err)
		}
		sh(t, "apt-get purge -qq -y tt-app")
	}
}

// Neither a stop of the agent nor a cancel leaves packages half installed.
func TestAptStopAndCancel(t *testing.T) {
	a := newAgent(t, "tt-*")
	r := newRepository(t)
	started, free := filepath.Join(t.TempDir(), "started"), filepath.Join(t.TempDir(), "free")
	r.offer("tt-slow 1-1 postinst:touch " + started + "; until [ -e " + free + " ]; do sleep 0.05; done")
	for _, cause := range []error{handlers.ErrStopping, handlers.ErrCancelled} {
		sh(t, "rm -f "+started+" "+free)
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			for !exists(started) && t.Context().Err() == nil {
				time.Sleep(20 * time.Millisecond) //nolint:forbidigo // the pause of a polling loop
			}
			cancel(cause)
			if errors.Is(cause, handlers.ErrCancelled) {
				_ = os.WriteFile(free, nil, 0o600)
			}
		}()
		id, o, err := a.call(ctx, `{"packages":[{"name":"tt-slow"}]}`)
		if errors.Is(cause, handlers.ErrStopping) {
			if !errors.Is(err, handlers.ErrStopping) {
				t.Fatalf("%s, %v\n%s", summary(o), err, a.out)
			}
			sh(t, "touch "+free)
			printed := int64(a.out.Len())
			_, o, err = a.call(t.Context(), `{"packages":[{"name":"tt-slow"}]}`, func(c *handlers.Call) { c.TaskID, c.Resumed, c.OutputBytes = id, true, printed })
		}
		if err != nil || summary(o) != "changed tt-slow >1-1" {
			t.Errorf("%v: %s, %v\n%s", cause, summary(o), err, a.out)
		}
		if _, o, err = a.call(t.Context(), `{"packages":[{"name":"tt-slow"}]}`, undo(id)); err != nil || summary(o) != "changed tt-slow 1-1>" {
			t.Errorf("%s, %v", summary(o), err)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
