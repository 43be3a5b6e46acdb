package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
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
			[]string{"READY=1", "STATUS=not connected; trying again: ", "WATCHDOG=1"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
			conn, err := net.ListenUnixgram("unixgram", address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			t.Setenv("NOTIFY_SOCKET", address.Name)
			f := &fleet{t: t, dir: t.TempDir()}
			p := start(t, test.program, "run", "--config", f.write("config.yaml", test.config))
			await(t, conn, p, test.want)
			p.stop(t)
			await(t, conn, p, []string{"STOPPING=1"})
		})
	}
}

// await reads what a program tells until each of the wanted lines has begun one.
func await(t *testing.T, conn *net.UnixConn, p *process, want []string) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	left := slices.Clone(want)
	var told []string
	for buf := make([]byte, 4096); len(left) > 0; {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("told %q, and never %q: %v\n%s", told, left, err, p.log)
		}
		for line := range strings.SplitSeq(string(buf[:n]), "\n") {
			told = append(told, line)
			left = slices.DeleteFunc(left, func(w string) bool { return strings.HasPrefix(line, w) })
		}
	}
}
