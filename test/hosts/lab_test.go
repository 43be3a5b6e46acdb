package hosts

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lab is the set of hosts of one test.
type lab struct {
	t    *testing.T
	name string
}

// made counts the labs of this process, to name them.
var made atomic.Int32

// newLab boots hosts, and removes them when the test ends.
func newLab(t *testing.T, hosts ...string) *lab {
	t.Helper()
	skipUnlessEnabled(t)
	name := os.Getenv("LAB_NAME")
	if name == "" {
		name = fmt.Sprintf("tasker-lab-%d", os.Getpid())
	}
	l := &lab{t: t, name: fmt.Sprintf("%s.%d", name, made.Add(1))}
	t.Cleanup(func() { l.do("down") })
	l.do(append([]string{"up"}, hosts...)...)
	return l
}

// do runs the script; it must succeed.
func (l *lab) do(args ...string) string {
	l.t.Helper()
	out, err := l.try("", args...)
	if err != nil {
		l.t.Fatalf("lab %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// try runs the script and returns what it prints.
func (l *lab) try(input string, args ...string) (string, error) {
	l.t.Helper()
	// The test's context is already done when the cleanups run.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "./lab", args...)
	cmd.Env = append(os.Environ(), "LAB_NAME="+l.name)
	cmd.Stdin = strings.NewReader(input)
	// Files instead of pipes: the hosts keep running and would keep a pipe open.
	out, err := os.CreateTemp(l.t.TempDir(), "out")
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	printed, readErr := os.ReadFile(out.Name())
	if readErr != nil {
		l.t.Fatal(readErr)
	}
	return string(bytes.TrimSpace(printed)), err
}

// sh runs a shell script on a host; it must succeed.
func (l *lab) sh(host, script string) string {
	l.t.Helper()
	return l.do("exec", host, "sh", "-euc", script)
}

// put writes a file on a host.
func (l *lab) put(host, path, content, mode string) {
	l.t.Helper()
	script := fmt.Sprintf("mkdir -p %s; cat >%s; chmod %s %[2]s", filepath.Dir(path), path, mode)
	if out, err := l.try(content, "exec", host, "sh", "-euc", script); err != nil {
		l.t.Fatalf("write %s on %s: %v\n%s", path, host, err, out)
	}
}

// copy copies a file of this machine to a host.
func (l *lab) copy(host, from, to, mode string) {
	l.t.Helper()
	content, err := os.ReadFile(from) //nolint:gosec // a file of the project
	if err != nil {
		l.t.Fatal(err)
	}
	l.put(host, to, string(content), mode)
}

// runTests runs all tests of a package below handlers on a host.
func (l *lab) runTests(host, handler string) {
	l.t.Helper()
	binary := filepath.Join(l.t.TempDir(), "tests")
	build := exec.Command("go", "test", "-c", "-o", binary, "../../handlers/"+handler) //nolint:gosec // a file of the project
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		l.t.Fatalf("build the tests of %s: %v\n%s", handler, err, out)
	}
	l.copy(host, binary, "/run/tests", "755")
	out, err := l.try("", "exec", host, "env", "TASKER_TEST_HOST=1", "/run/tests", "-test.v", "-test.timeout=4m")
	if err != nil || strings.Contains(out, "SKIP") {
		l.t.Errorf("%v\n%s", err, out)
	}
}

// dial connects from within the lab's network. A socket stays in the network namespace in
// which it was created, so only the creating thread must enter it.
func (l *lab) dial(ctx context.Context, network, address string) (net.Conn, error) {
	runtime.LockOSThread()
	home, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		return nil, err
	}
	defer func() { _ = home.Close() }()
	there, err := os.Open(filepath.Join("/run/netns", l.name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = there.Close() }()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter the network of the lab: %w", err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread() // else the thread ends with its goroutine
	}
	return conn, err
}
