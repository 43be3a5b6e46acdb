package artifact_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
)

func TestDeployOnFullDisk(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.useSmallDisk()
	f.deploy("t1", "1.0", nil)
	for want, content := range map[string]string{
		"there is not enough space below": strings.Repeat("\x00", 8<<20), // It is large only when unpacked.
		"has 4194304 bytes or more, and":  "",
	} {
		p := f.payload("1.1", files{"large": content})
		if content == "" {
			must(os.WriteFile(f.home+"/mirror/large", make([]byte, 4<<20), 0o600))
			p["url"], p["format"], p["name"] = "file://"+f.home+"/mirror/large", "plain", "app"
			p["max_size"] = 1 << 20
		}
		a := f.do(t.Context(), call{task: "t2", payload: p})
		f.wantError(a, want)
		f.wantCurrent("1.0")
	}
	// A download of unknown size fills the disk.
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		for range 64 {
			_, _ = w.Write(make([]byte, 64<<10))
		}
	}))
	t.Cleanup(mirror.Close)
	must(f.allow([]string{mirror.URL}))
	p := f.payload("1.2", nil)
	p["url"] = mirror.URL + "/app.zip"
	f.wantError(f.do(t.Context(), call{task: "t3", payload: p}), "the disk is full")
	f.wantCurrent("1.0")
	f.deploy("t4", "1.3", nil)
	// A partial download of another file is removed when the space is needed.
	part, err := os.Create(f.app() + "/.tasker/" + sum(nil) + ".part")
	must(err)
	for err == nil {
		_, err = part.Write(make([]byte, 4096))
	}
	must(part.Close())
	f.deploy("t5", "1.4", nil)
}

// The handler also switches back from a release that has filled the disk.
func TestSwitchBackOnFullDisk(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.useSmallDisk()
	f.deploy("t1", "1.0", nil)
	hook := "#!/bin/sh\n[ $1 = before ] || cat /dev/zero > \"$RELEASE/log\"\n"
	a := f.do(t.Context(), call{task: "t2", payload: f.payload("1.1", files{"bin/hook": hook})})
	f.wantError(a, "switched back to 1.0, which works, because the hook after")
	f.wantCurrent("1.0")
	if a.Changed || !a.SwitchedBack || a.Current != "1.0" {
		t.Errorf("%+v", a.Outcome)
	}
}

// useSmallDisk puts the application on a disk of one megabyte.
func (f fixture) useSmallDisk() {
	f.t.Helper()
	if os.Geteuid() != 0 {
		f.t.Skip("skipped: only root can mount a small disk")
	}
	must(os.Mkdir(f.app(), 0o755))
	if err := syscall.Mount("tmpfs", f.app(), "tmpfs", 0, "size=1m,mode=755"); err != nil {
		f.t.Skipf("skipped: cannot mount a small disk: %v", err)
	}
	f.t.Cleanup(func() { must(syscall.Unmount(f.app(), syscall.MNT_DETACH)) })
}

// A partial download stays for a task that continues it, until another task has
// installed its release.
func TestPartialDownload(t *testing.T) {
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
		if len(ranges) < 3 { // The connection breaks.
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:20])
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(content)))
	}))
	t.Cleanup(mirror.Close)
	must(f.allow([]string{mirror.URL}))
	p := map[string]any{"url": mirror.URL + "/app.tar.gz", "sha256": sum(content), "version": "1.0", "directory": f.app()}
	part := f.app() + "/.tasker/" + sum(content) + ".part"
	cancelDownload := func(task string) {
		t.Helper()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		a := f.do(ctx, call{task: task, payload: p, progress: func(message string) {
			if strings.Contains(message, ": 20 B of ") {
				cancel(handlers.ErrCancelled)
			}
		}})
		f.wantError(a, "cancelled")
		if fi, err := os.Stat(part); err != nil || fi.Size() != 20 {
			t.Fatalf("the partial download is %v, %v", fi, err)
		}
	}
	cancelDownload("t1")
	f.deploy("t2", "1.1", nil) // It also checks that no temporary files are left.
	cancelDownload("t3")
	bad := f.payload("1.2", nil)
	bad["sha256"] = sum(nil)
	f.wantError(f.do(t.Context(), call{task: "t4", payload: bad}), "as in the task")
	if a := f.do(t.Context(), call{task: "t5", payload: p}); a.err != nil {
		t.Fatal(a.err)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"", "", "bytes=20-"}; !slices.Equal(ranges, want) {
		t.Errorf("requested %q, want %q", ranges, want)
	}
	if _, err := os.Stat(part); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the partial download still exists: %v", err)
	}
}
