package facts_test

import (
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/facts"
)

func TestFactsMatchTheKernel(t *testing.T) {
	t.Parallel()
	result, err := facts.New().Handle(t.Context(), handlers.Call{Payload: json.RawMessage(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	got, ok := result.Value.(facts.Facts)
	if !ok {
		t.Fatalf("the result is a %T", result.Value)
	}

	host, err := os.Hostname()
	if err != nil || got.Hostname != host {
		t.Errorf("hostname %q, want %q (%v)", got.Hostname, host, err)
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	if want := unix.ByteSliceToString(uts.Release[:]); got.Kernel != want {
		t.Errorf("kernel %q, want %q", got.Kernel, want)
	}
	if want := unix.ByteSliceToString(uts.Machine[:]); got.Architecture != want {
		t.Errorf("architecture %q, want %q", got.Architecture, want)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		t.Fatal(err)
	}
	// /proc/meminfo counts in kB.
	if want := info.Totalram * uint64(info.Unit); got.Memory.Total/1024 != want/1024 {
		t.Errorf("memory %d, want %d", got.Memory.Total, want)
	}
	if up := uint64(info.Uptime); got.UptimeSeconds > up || got.UptimeSeconds+60 < up {
		t.Errorf("uptime %d, want about %d", got.UptimeSeconds, up)
	}
	if got.CPUs.Count < runtime.NumCPU() {
		t.Errorf("%d CPUs, want at least %d", got.CPUs.Count, runtime.NumCPU())
	}
	if got.OS.Name == "" {
		t.Error("no OS")
	}
	for _, d := range got.Disks {
		var fs unix.Statfs_t
		if err := unix.Statfs(d.Mountpoint, &fs); err != nil {
			t.Errorf("disk %s: %v", d.Mountpoint, err)
		} else if want := fs.Blocks * uint64(fs.Bsize); d.Total != want {
			t.Errorf("disk %s has %d bytes, want %d", d.Mountpoint, d.Total, want)
		}
	}
	if b, err := json.Marshal(got); err != nil {
		t.Error(err)
	} else {
		t.Logf("%s", b)
	}
}

func TestPayloadMustBeEmpty(t *testing.T) {
	t.Parallel()
	mux, err := handlers.NewMux(facts.New())
	if err != nil {
		t.Fatal(err)
	}
	if err := mux.Validate(facts.Name, json.RawMessage(`{}`)); err != nil {
		t.Error(err)
	}
	var pe *handlers.PayloadError
	if err := mux.Validate(facts.Name, json.RawMessage(`{"foo":1}`)); !errors.As(err, &pe) {
		t.Errorf("got %v", err)
	}
}
