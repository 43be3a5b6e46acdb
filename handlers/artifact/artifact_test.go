package artifact_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/artifact"
)

type files = map[string]string

func (f fixture) is(a answer, want artifact.Outcome) {
	f.t.Helper()
	if diff := cmp.Diff(want, a.Outcome); diff != "" {
		f.t.Errorf("%v; -want +got:\n%s", a.err, diff)
	}
}

// saysLast holds the last line that a task printed, which its progress ends with.
func (f fixture) saysLast(a answer, want string) {
	f.t.Helper()
	lines := strings.Split(strings.TrimSpace(a.output), "\n")
	if got := lines[len(lines)-1]; got != want {
		f.t.Errorf("the last line is %q, want %q", got, want)
	}
}

func TestDeploys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.deploys("t1", "1.0", nil)
	f.is(a, artifact.Outcome{Changed: true, To: "1.0", Current: "1.0"})
	f.saysLast(a, "1.0 is current")
	release := f.app() + "/releases/1.0"
	for _, hook := range []string{"before", "after"} {
		if line := fmt.Sprintf("%s 1.0 %s %[2]s t1\n", hook, release); !strings.Contains(a.output, line) {
			t.Errorf("the output has no line %q:\n%s", line, a.output)
		}
	}
	a = f.deploys("t2", "1.1", files{"link": "-> VERSION"})
	f.is(a, artifact.Outcome{Changed: true, From: "1.0", To: "1.1", Current: "1.1"})
	a = f.deploys("t3", "1.1", files{"link": "-> VERSION"})
	f.is(a, artifact.Outcome{From: "1.1", To: "1.1", Current: "1.1", Note: "1.1 is current already"})
	f.saysLast(a, "1.1 is current already")
	if strings.Contains(a.output, "hook") || strings.Contains(a.output, "restarting") {
		t.Errorf("a second run has done something:\n%s", a.output)
	}
	// The same task again, by an agent that was killed before it said how it went.
	a = f.deploys("t2", "1.1", files{"link": "-> VERSION"})
	f.is(a, artifact.Outcome{Changed: true, From: "1.0", To: "1.1", Current: "1.1"})
	// Back, without the file, which is here already.
	p := f.payload("1.0", nil)
	p["url"] = "file:///no/such.tar.gz"
	a = f.do(t.Context(), call{task: "t4", payload: p})
	f.is(a, artifact.Outcome{Changed: true, From: "1.1", To: "1.0", Current: "1.0"})
	f.serves("1.0")
	// A release that somebody has removed is made again.
	if err := os.RemoveAll(release); err != nil {
		t.Fatal(err)
	}
	a = f.deploys("t5", "1.0", nil)
	f.is(a, artifact.Outcome{Changed: true, From: "1.0", To: "1.0", Current: "1.0"})
	// One that is not healthy is said to be so, although nothing is to be done.
	if err := os.WriteFile(f.serving(), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	a = f.do(t.Context(), call{task: "t6", payload: f.payload("1.0", nil)})
	f.fails(a, "1.0 is not healthy: exit code 1; the last of the journal of app.service:\npanic:\nout of cheese")
	f.is(a, artifact.Outcome{From: "1.0", To: "1.0", Current: "1.0", Step: "health", Note: "1.0 is current already"})
}

func TestDeploysAFileOverHTTP(t *testing.T) {
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
	p := map[string]any{
		"url": mirror.URL + "/app?signature=hunter2", "sha256": strings.ToUpper(sum([]byte(content))), "version": "1", "directory": f.app(),
		"format": "plain", "name": "bin/app", "mode": "0775", "token_file": token,
		"health": map[string]any{"http": mirror.URL + "/?key=hunter2", "retries": 0, "timeout": "1m"},
	}
	f.fails(f.do(t.Context(), call{task: "t1", payload: p}), token+": no such file or directory; put the token there")
	if err := os.WriteFile(token, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := f.do(t.Context(), call{task: "t1", payload: p})
	f.fails(a, "answered 401 Unauthorized: it wants other credentials")
	if err := os.WriteFile(token, []byte("Basic aHVudGVyMg==\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := f.do(t.Context(), call{task: "t1", payload: p})
	f.fails(b, "switched back to no release, as there was none before, because 1 is not healthy: "+mirror.URL+"/?… answered 401")
	for _, said := range []string{a.output, a.err.Error(), b.output, b.err.Error()} {
		if strings.Contains(said, "hunter2") || strings.Contains(said, "aHVudGVyMg") {
			t.Errorf("a secret is in %s", said)
		}
	}
	p["health"] = map[string]any{"tcp": mirror.Listener.Addr().String()}
	a = f.do(t.Context(), call{task: "t2", payload: p})
	f.is(a, artifact.Outcome{Changed: true, To: "1", Current: "1"})
	path := filepath.Join(f.app(), "current/bin/app")
	got, err := os.ReadFile(path)
	fi, statErr := os.Stat(path)
	if err != nil || statErr != nil || string(got) != content || fi.Mode() != 0o755 {
		t.Errorf("%s is %q, %v (%v)", path, got, fi.Mode(), errors.Join(err, statErr))
	}
}

func TestSwitchesBack(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file, step, want string
	}{
		{"sick", "sick", "health", "switched back to 1.0, which works, because 1.1 is not healthy: exit code 1; the last of the journal of app.service:\npanic:\nout of cheese"},
		{"broken", "broken", "restart", "because app.service did not become active; the last of its journal:\nsegmentation fault"},
		{"hook", "fails-after", "hook after", "because the hook after, bin/hook of 1.1, failed: exit code 1: after 1.1 /"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			bad := func(task string) answer {
				return f.do(t.Context(), call{task: task, payload: f.payload("1.1", files{tt.file: ""})})
			}
			a := bad("t0")
			f.fails(a, "switched back to no release, as there was none before")
			f.is(a, artifact.Outcome{To: "1.1", Step: tt.step, SwitchedBack: true})
			f.serves("")
			f.deploys("t1", "1.0", nil)
			a = bad("t2")
			f.fails(a, tt.want)
			f.is(a, artifact.Outcome{From: "1.0", To: "1.1", Current: "1.0", Step: tt.step, SwitchedBack: true})
			f.serves("1.0")
			if got := f.releases(); got != "1.0 1.1" {
				t.Errorf("releases %s: the bad one is to stay", got)
			}
			a = f.do(t.Context(), call{task: "t3", action: tasker.Undo, undoes: "t2", payload: f.payload("1.1", files{tt.file: ""})})
			if a.err != nil || a.Changed {
				t.Errorf("undone was %+v", a)
			}
			f.serves("1.0")
			// Neither does the one before work any more.
			if err := os.WriteFile(filepath.Join(f.app(), "releases/1.0/broken"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			a = bad("t4")
			f.fails(a, "switched back to 1.0, which does not work either (app.service did not become active")
			f.is(a, artifact.Outcome{From: "1.0", To: "1.1", Current: "1.0", Step: tt.step, SwitchedBack: true})
		})
	}
}

func TestBackToWhatHasNoHook(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.deploys("t1", "1.0", nil)
	p := f.payload("1.1", files{"sick": "", "bin/new": "#!/bin/sh\n"})
	p["hooks"] = map[string]any{"after": []string{"bin/new"}}
	a := f.do(t.Context(), call{task: "t2", payload: p})
	f.fails(a, "switched back to 1.0, which works")
	if !strings.Contains(a.output, "left out: ") {
		t.Errorf("the output is\n%s", a.output)
	}
}

func TestKeeps(t *testing.T) {
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
		t.Errorf("releases %s", got)
	}
	deploy("2", 3)
	if got := f.releases(); got != "2 5 6 foreign" {
		t.Errorf("releases %s", got)
	}
	deploy("7", 1)
	if got := f.releases(); got != "2 7 foreign" {
		t.Errorf("releases %s", got)
	}
	f.serves("7")
}

// Two that deploy to a directory wait for each other.
func TestOneAtATime(t *testing.T) {
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
				f.is(b, artifact.Outcome{Changed: true, From: "1.0", To: "1.1", Current: "1.1"})
			})
			<-waited
		}
	}})
	group.Wait()
	f.is(a, artifact.Outcome{Changed: true, To: "1.0", Current: "1.0"})
	f.serves("1.1")
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.onASmallDisk()
	f.deploys("t1", "1.0", nil)
	for want, content := range map[string]string{
		"there is no room for it below":  strings.Repeat("\x00", 8<<20), // only when it is unpacked
		"has 4194304 bytes or more, and": "",
	} {
		p := f.payload("1.1", files{"large": content})
		if content == "" {
			must(os.WriteFile(f.home+"/mirror/large", make([]byte, 4<<20), 0o600))
			p["url"], p["format"], p["name"] = "file://"+f.home+"/mirror/large", "plain", "app"
			p["max_size"] = 1 << 20
		}
		a := f.do(t.Context(), call{task: "t2", payload: p})
		f.fails(a, want)
		f.serves("1.0")
	}
	// Without a size to know of before, it fills up.
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		for range 64 {
			_, _ = w.Write(make([]byte, 64<<10))
		}
	}))
	t.Cleanup(mirror.Close)
	p := f.payload("1.2", nil)
	p["url"] = mirror.URL + "/app.zip"
	f.fails(f.do(t.Context(), call{task: "t3", payload: p}), "the disk is full")
	f.serves("1.0")
	f.deploys("t4", "1.3", nil)
	// What is left of a download of another file gives way.
	part, err := os.Create(f.app() + "/.tasker/" + sum(nil) + ".part")
	must(err)
	for err == nil {
		_, err = part.Write(make([]byte, 4096))
	}
	must(part.Close())
	f.deploys("t5", "1.4", nil)
}

// A release that fills up the disk is switched back from, too.
func TestFillsTheDisk(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.onASmallDisk()
	f.deploys("t1", "1.0", nil)
	fills := "#!/bin/sh\n[ $1 = before ] || cat /dev/zero > \"$RELEASE/log\"\n"
	a := f.do(t.Context(), call{task: "t2", payload: f.payload("1.1", files{"bin/hook": fills})})
	f.fails(a, "switched back to 1.0, which works, because the hook after")
	f.serves("1.0")
	if a.Changed || !a.SwitchedBack || a.Current != "1.0" {
		t.Errorf("%+v", a.Outcome)
	}
}

// onASmallDisk has the application on a disk of one megabyte.
func (f fixture) onASmallDisk() {
	f.t.Helper()
	if os.Geteuid() != 0 {
		f.t.Skip("left out: a small disk of its own, which only root can mount")
	}
	must(os.Mkdir(f.app(), 0o755))
	if err := syscall.Mount("tmpfs", f.app(), "tmpfs", 0, "size=1m,mode=755"); err != nil {
		f.t.Skipf("left out: a small disk of its own: %v", err)
	}
	f.t.Cleanup(func() { must(syscall.Unmount(f.app(), syscall.MNT_DETACH)) })
}

// What a download has left stays for a task that goes on with it, until another one
// has its release.
func TestLeftOfADownload(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	content := pack(files{"bin/app": strings.Repeat("app", 1000)})
	var mu sync.Mutex
	var ranges []string
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		ranges = append(ranges, r.Header.Get("Range"))
		w.Header().Set("ETag", `"one"`)
		if len(ranges) < 3 { // breaks off
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:20])
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(content)))
	}))
	t.Cleanup(mirror.Close)
	p := map[string]any{"url": mirror.URL + "/app.tar.gz", "sha256": sum(content), "version": "1.0", "directory": f.app()}
	part := f.app() + "/.tasker/" + sum(content) + ".part"
	breaksOff := func(task string) {
		t.Helper()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		a := f.do(ctx, call{task: task, payload: p, progress: func(message string) {
			if strings.Contains(message, ": 20 B of ") {
				cancel(handlers.ErrCancelled)
			}
		}})
		f.fails(a, "cancelled")
		if fi, err := os.Stat(part); err != nil || fi.Size() != 20 {
			t.Fatalf("of the download is left %v, %v", fi, err)
		}
	}
	breaksOff("t1")
	f.deploys("t2", "1.1", nil) // which also says that nothing is left
	breaksOff("t3")
	bad := f.payload("1.2", nil)
	bad["sha256"] = sum(nil)
	f.fails(f.do(t.Context(), call{task: "t4", payload: bad}), "as the task says")
	if a := f.do(t.Context(), call{task: "t5", payload: p}); a.err != nil {
		t.Fatal(a.err)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"", "", "bytes=20-"}; !slices.Equal(ranges, want) {
		t.Errorf("asked for %q, want %q", ranges, want)
	}
	if _, err := os.Stat(part); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the part is still there: %v", err)
	}
}

// A cancel is obeyed at every step, and leaves the release of before.
func TestCancelledAtEachStep(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		f := newFixture(t)
		f.quickly("t1", "1.0")
		ctx, cancel := context.WithCancelCause(t.Context())
		left, at := n, ""
		a := f.do(ctx, call{task: "t2", payload: f.payload("1.1", nil), progress: func(message string) {
			if left--; left == 0 {
				at = message
				cancel(handlers.ErrCancelled)
			}
		}})
		cancel(nil)
		if at == "" {
			if n < 8 {
				t.Errorf("only %d steps", n)
			}
			break
		}
		if a.err == nil {
			f.serves("1.1") // It came too late.
			continue
		}
		if !errors.Is(a.err, handlers.ErrCancelled) && !strings.Contains(a.err.Error(), "cancelled") {
			t.Errorf("at %q: %v", at, a.err)
		}
		if a.Changed || a.Current != "1.0" && a.Current != "" {
			t.Errorf("at %q: %+v", at, a.Outcome)
		}
		f.quickly("t3", "1.2")
	}
}

// A health check waits for what is not there yet.
func TestHealthIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	// The port is taken, but it is listened there only later.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(err)
	must(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	at, err := syscall.Getsockname(fd)
	must(err)
	address := fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port) //nolint:errcheck,forcetypeassert // as it was bound
	late := false
	p := f.payload("1.0", nil)
	p["health"] = map[string]any{"tcp": address, "retries": 1000, "interval": "1ms", "timeout": "1m"}
	a := f.do(t.Context(), call{task: "t1", payload: p, progress: func(message string) {
		if !late && strings.Contains(message, "not healthy yet (2 of 1001)") {
			must(syscall.Listen(fd, 10))
			late = true
		}
	}})
	if a.err != nil || !late {
		t.Fatal(a.err)
	}
	must(syscall.Close(fd))
	// One that hangs does not hang the task.
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() {
		close(stop)
		server.Close()
	})
	p = f.payload("1.1", nil)
	p["health"] = map[string]any{"http": server.URL, "retries": 0, "timeout": "50ms"}
	f.fails(f.do(t.Context(), call{task: "t2", payload: p}), "1.1 is not healthy: no answer within 50ms")
}
