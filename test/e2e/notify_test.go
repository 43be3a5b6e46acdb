package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// What the programs tell systemd: that they are ready when they work or know what
// they wait for, that they live, and that they stop.
func TestProgramsTellSystemd(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "300000")
	nobody := freeAddress(t)
	_, port, _ := net.SplitHostPort(freeAddress(t))
	controlplane := func(dir, database string) string {
		return types + fmt.Sprintf("data_dir: %q\napi: {address: 127.0.0.1, port: %s, auth: off}\ndatabase: {uri: %q}\n", dir, port, database)
	}
	tests := []struct {
		name, program, config string
		want                  []string
	}{
		{
			"a control plane", "tasker-controlplane", controlplane(t.TempDir(), "sqlite:tasker.db"),
			[]string{"READY=1", "STATUS=API at 127.0.0.1:" + port, "WATCHDOG=1"},
		},
		{
			"a control plane without its database", "tasker-controlplane",
			controlplane(t.TempDir(), "mysql://tasker@"+nobody+"/tasker"),
			[]string{"READY=1", "STATUS=waiting for the database: ", "WATCHDOG=1"},
		},
		{
			"an agent without its control plane", "tasker-agent",
			fmt.Sprintf("endpoint: loadbalancer-1\nserver: {uri: %q}\ndata_dir: %q\nmetrics: {port: 0}\n", "http://"+nobody, t.TempDir()),
			[]string{"READY=1", "STATUS=not connected; retrying: ", "WATCHDOG=1"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			told := listen(t)
			f := &fleet{t: t, dir: t.TempDir()}
			p := start(t, test.program, "run", "--config", f.write("config.yaml", test.config))
			for _, want := range test.want {
				wait.For(t, "systemd to be told "+want, func() bool { return strings.Contains("\n"+told.String(), "\n"+want) })
			}
			p.stop(t)
			wait.For(t, "systemd to be told that it stops", func() bool { return strings.Contains(told.String(), "STOPPING=1") })
		})
	}
}

// listen is systemd's end of NOTIFY_SOCKET. Like systemd it always reads: who tells
// something is held up when a few of its datagrams wait.
func listen(t *testing.T) *lockedBuffer {
	t.Helper()
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	told, done := &lockedBuffer{}, make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 4096); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			_, _ = told.Write(append(buf[:n:n], '\n'))
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
		if t.Failed() {
			t.Logf("told:\n%s", told)
		}
	})
	t.Setenv("NOTIFY_SOCKET", address.Name)
	return told
}
