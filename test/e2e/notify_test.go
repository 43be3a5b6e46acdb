package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/syncbuffer"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// The programs notify systemd when they are ready, which includes waiting for something, with
// the watchdog, and when they stop.
func TestProgramsNotifySystemd(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "300000")
	unused := freeAddress(t)
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
			controlplane(t.TempDir(), "mysql://tasker@"+unused+"/tasker"),
			[]string{"READY=1", "STATUS=waiting for the database: ", "WATCHDOG=1"},
		},
		{
			"an agent without its control plane", "tasker-agent",
			fmt.Sprintf("endpoint: loadbalancer-1\nserver: {uri: %q}\ndata_dir: %q\nmetrics: {port: 0}\n", "http://"+unused, t.TempDir()),
			[]string{"READY=1", "STATUS=not connected; retrying: ", "WATCHDOG=1"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			notifications := listen(t)
			f := &fleet{t: t, dir: t.TempDir()}
			p := startProgram(t, test.program, "run", "--config", f.write("config.yaml", test.config))
			for _, want := range test.want {
				wait.For(t, "the notification "+want, func() bool { return strings.Contains("\n"+notifications.String(), "\n"+want) })
			}
			p.stop(t)
			wait.For(t, "the notification of the stop", func() bool { return strings.Contains(notifications.String(), "STOPPING=1") })
		})
	}
}

// listen receives the notifications on NOTIFY_SOCKET. It always reads, as systemd does: a
// program blocks when a few of its datagrams are unread.
func listen(t *testing.T) *syncbuffer.Buffer {
	t.Helper()
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	notifications, done := &syncbuffer.Buffer{}, make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 4096); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			_, _ = notifications.Write(append(buf[:n:n], '\n'))
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
		if t.Failed() {
			t.Logf("notifications:\n%s", notifications)
		}
	})
	t.Setenv("NOTIFY_SOCKET", address.Name)
	return notifications
}
