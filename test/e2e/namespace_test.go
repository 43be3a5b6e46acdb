package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// namespaces are Linux namespaces of a process that sleeps until the test ends.
type namespaces struct {
	t      *testing.T
	holder *process
}

// newNamespaces creates namespaces by the flags of unshare.
func newNamespaces(t *testing.T, flags ...string) namespaces {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can create namespaces")
	}
	holder := startCommand(t, exec.Command("unshare", append(flags, "sh", "-c", "echo ready; exec sleep infinity")...)) //nolint:gosec // flags of the tests
	waitLog(t, holder, "ready", 1)
	return namespaces{t, holder}
}

// command returns a command that runs in the namespaces.
func (n namespaces) command(ctx context.Context, args ...string) *exec.Cmd {
	pid := strconv.Itoa(n.holder.cmd.Process.Pid)
	return exec.CommandContext(ctx, "nsenter", append([]string{"-t", pid, "-m", "-n", "--"}, args...)...) //nolint:gosec // commands of the tests
}

// run runs a command in the namespaces and returns its output.
func (n namespaces) run(args ...string) string {
	n.t.Helper()
	out, err := n.command(n.t.Context(), args...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// start starts a program of this module in the namespaces.
func (n namespaces) start(program string, args ...string) *process {
	n.t.Helper()
	return startCommand(n.t, n.command(context.WithoutCancel(n.t.Context()), append([]string{filepath.Join(programs, program)}, args...)...))
}

// The programs work on hosts that have IPv6 addresses only, apart from loopback: enrolment,
// orders and reports over TLS, and the command line.
func TestHostsWithIPv6Only(t *testing.T) {
	t.Parallel()
	n := newNamespaces(t, "--net")
	n.run("ip", "link", "set", "lo", "up")
	n.run("ip", "-6", "addr", "add", "2001:db8::1/128", "dev", "lo", "nodad")
	f := &fleet{t: t, dir: t.TempDir()}
	config := f.write("controlplane.yaml", types+fmt.Sprintf("data_dir: %q\napi: {address: \"::\", port: 8888}\n", filepath.Join(f.dir, "cp")))
	n.start("tasker-controlplane", "run", "--config", config)
	admin := filepath.Join(f.dir, "cp", "admin.token")
	wait.For(t, "the control plane to listen", func() bool {
		return n.command(t.Context(), "bash", "-c", "echo >/dev/tcp/::1/8888").Run() == nil
	})
	tasker := func(args ...string) string {
		return n.run(append([]string{
			"env", "HOME=" + f.dir, "TASKER_URL=https://[::1]:8888", "TASKER_TOKEN=" + strings.TrimSpace(readFile(t, admin)),
			"TASKER_CA_FILE=" + filepath.Join(f.dir, "cp", "tls.crt"), filepath.Join(programs, "tasker"),
		}, args...)...)
	}
	enrol := strings.Fields(tasker("enrol-token", "create"))
	agent := f.write("agent.yaml", fmt.Sprintf("data_dir: %q\nmetrics: {address: \"2001:db8::1\", port: 9464}\n", filepath.Join(f.dir, "agent")))
	n.run(append([]string{filepath.Join(programs, "tasker-agent"), "enrol", "--config", agent, "--endpoint", "web-1", "--server", "https://[2001:db8::1]:8888"}, enrol[4:6]...)...)
	waitLog(t, n.start("tasker-agent", "run", "--config", agent), "connected to the control plane", 1)
	if got := tasker("task", "create", "ping", "--endpoint", "web-1", "--wait"); !strings.Contains(got, "succeeded") {
		t.Errorf("the task: %s", got)
	}
}

// An agent resolves the name of its server for each connection, so it follows a control plane
// that gets another address.
func TestServerNameResolvesToAnotherAddress(t *testing.T) {
	t.Parallel()
	n := newNamespaces(t, "--mount", "--propagation", "private")
	f := newFleet(t, backends()["http+sqlite"](t))
	_, port, _ := net.SplitHostPort(f.api)
	hosts := f.write("hosts", "127.0.0.2 localhost\n") // nothing listens there
	n.run("mount", "--bind", hosts, "/etc/hosts")
	config := f.write("agent.yaml", fmt.Sprintf("endpoint: web-1\nserver: {uri: \"http://localhost:%s\"}\ndata_dir: %q\nmetrics: {port: 0}\n",
		port, filepath.Join(f.dir, "agent")))
	agent := n.start("tasker-agent", "run", "--config", config)
	waitLog(t, agent, "127.0.0.2:"+port+": connect: connection refused", 1)
	f.write("hosts", "127.0.0.1 localhost\n")
	wait.For(t, "web-1 to be connected", func() bool { return f.endpoint("web-1").Connected })
}

// A network file system does not respond any more. Only the tasks that need it are affected.
func TestUnresponsiveFileSystem(t *testing.T) {
	t.Parallel()
	n := newNamespaces(t, "--mount", "--propagation", "private")
	backend := backends()["http+sqlite"](t)
	backend.controlplane = "  - file\n" + backend.controlplane
	f := newFleet(t, backend)
	dir := filepath.Join(f.dir, "share")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// A FUSE file system whose server reads no request, like a hard NFS mount without a server.
	server, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("skipped: no FUSE: %v", err)
	}
	t.Cleanup(func() { _ = server.Close() })
	mount := n.command(t.Context(), "mount", "-i", "-t", "fuse", "-o", "fd=3,rootmode=40000,user_id=0,group_id=0,allow_other", "share", dir)
	mount.ExtraFiles = []*os.File{server}
	if out, err := mount.CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	config := f.write("agent.yaml", f.backend.agents(f.api)+fmt.Sprintf("endpoint: web-1\ndata_dir: %q\nmetrics: {port: 0}\nkill_grace: 1s\nhandlers:\n  command: {allow: [[/bin/ls, \"*\"]]}\n  file: {allow: [%q]}\n",
		filepath.Join(f.dir, "agent"), dir))
	n.start("tasker-agent", "run", "--config", config)
	wait.For(t, "web-1 to be connected", func() bool { return f.endpoint("web-1").Connected })

	file := f.post("file", fmt.Sprintf(`{"identifier":"file","endpoints":["web-1"],"timeout":"1s","payload":{"path":"%s/a","content":"a"}}`, dir))
	hanging := f.post("command", fmt.Sprintf(`{"identifier":"ls","endpoints":["web-1"],"timeout":"2s","payload":{"argv":["/bin/ls",%q]}}`, dir))
	for _, other := range []string{"ping", "facts"} {
		task := f.post(other, `{"identifier":"other","endpoints":["web-1"]}`)
		if a := f.waitFinished(task); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("%s: %+v", other, a.Responses)
		}
	}
	if got := f.waitFinished(hanging).response("web-1"); got.Status != tasker.TimedOut {
		t.Errorf("command: %+v", got)
	}
	if left := processesOf(t, hanging.ID); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	// The kernel may still perform the write, so the response does not end before.
	if got := f.get("file", file.ID).response("web-1"); got.Status != tasker.Running {
		t.Errorf("file: %+v", got)
	}
	if err := server.Close(); err != nil { // all requests end
		t.Fatal(err)
	}
	if got := f.waitFinished(file).response("web-1"); got.Status != tasker.Rejected || !strings.Contains(got.Reason, "not connected") {
		t.Errorf("file: %+v", got)
	}
}
