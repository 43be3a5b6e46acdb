package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

// The readiness of a control plane depends on Check.
func TestCheckFailsWhileTheDiskIsFull(t *testing.T) {
	t.Parallel()
	o := storetest.SQLite(t)
	if err := unix.Mount("tmpfs", o.DataDir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skip("a small file system needs root: ", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(o.DataDir, unix.MNT_DETACH)) })
	f := newFixture(t, o)
	must(t, f.Check(t.Context()))
	filler := filepath.Join(o.DataDir, "filler")
	if err := os.WriteFile(filler, make([]byte, 8<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	large := request("a", "web-1")
	large.Payload = []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	// A task that cannot be stored may leave some room in the write-ahead log, which the
	// small write of a check uses up.
	var err error
	for i := 0; err == nil && i < 5000; i++ {
		if _, _, err := f.CreateTask(t.Context(), large); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("CreateTask on a full disk = %v, want ErrUnavailable", err)
		}
		err = f.Check(t.Context())
	}
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "full") {
		t.Errorf("Check on a full disk = %v, want ErrUnavailable that names the full disk", err)
	}
	must(t, os.Remove(filler))
	must(t, f.Check(t.Context()))
	f.create(t, large)
}
