package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// hasHeartbeat reports whether the last heartbeat matches.
func (r *runningAgent) hasHeartbeat(matches func(problem string) bool) bool {
	for i := len(r.reports) - 1; i >= 0; i-- {
		if h := r.reports[i].Heartbeat; h != nil {
			return matches(h.Problem)
		}
	}
	return false
}

func TestAgentReportsThatItsDiskIsFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skip("a small file system needs root: ", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	noop := handlerFunc("deploy", func(context.Context, handlers.Call) (handlers.Result, error) { return handlers.Result{}, nil })
	r := startAgent(t, newDirectControlPlane(), dir, []handlers.Handler{noop})
	r.wait(t, "the welcome", func() bool { return len(r.reports) > 0 && len(r.batches) == 0 })
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 4<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}

	order := assign(r.controlPlane, "t1", "deploy")
	order.Assignment.Payload = []byte(`"` + strings.Repeat("x", 512<<10) + `"`) // more than the journal's free pages
	r.deliver(order)
	r.wait(t, "a heartbeat with the problem", func() bool {
		return r.hasHeartbeat(func(problem string) bool {
			return strings.HasPrefix(problem, "the agent cannot write its journal: ") && strings.HasSuffix(problem, unix.ENOSPC.Error())
		})
	})
	must(t, os.Remove(filler))
	if u := r.waitEnded(t, "t1"); u.Status != tasker.Succeeded {
		t.Errorf("%s after the disk had space again", u.Status)
	}
	r.wait(t, "a heartbeat without the problem", func() bool {
		return r.hasHeartbeat(func(problem string) bool { return problem == "" })
	})
}
