//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/internal/syncbuffer"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// TestKeysAfterBackground stops a watch, types a command while it runs in the background,
// and brings it back: its keys work again.
func TestKeysAfterBackground(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("bash, whose job control is needed, is not installed")
	}
	url, st := serve(t, &shiftedClock{})
	c, err := client.New(client.Options{URL: url, Token: adminToken})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	task, err := c.Create(t.Context(), "ping", client.Request{Identifier: "job", Endpoints: []string{"j-1", "j-2"}, Rollout: []byte(`{"batch":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	state := func() tasker.RolloutState {
		now, err := st.Task(context.Background(), "ping", task.ID)
		if err != nil {
			t.Fatal(err)
		}
		return now.Rollout.State
	}
	shell := startShell(t, "TASKER_URL="+url, "TASKER_TOKEN="+adminToken, "HOME="+t.TempDir())
	shell.write("tasker task watch ping job\n")
	shell.waitFor("p pause")
	shell.write("\x1a") // Ctrl-Z
	shell.waitFor("Stopped")
	shell.write("bg\n")
	shell.waitFor("watch ping job &")
	shell.write("echo typed-$((1+1))\n")
	shell.waitFor("typed-2")
	shell.write("fg\n")
	shell.waitFor("p pause")
	wait.For(t, "the key p to pause the rollout", func() bool {
		shell.write("p")
		return state() == tasker.RolloutPaused
	})
	shell.write("q")
	shell.waitFor("the task continues; see it with")
	shell.write("echo echoed; stty -a\n")
	shell.waitFor(" icanon")
}

// shell is an interactive bash on a pseudo-terminal.
type shell struct {
	t        *testing.T
	terminal *os.File
	shown    *syncbuffer.Buffer
	seen     int // bytes of shown that waitFor has passed
}

// startShell starts a bash, with tasker in its PATH, that ends with the test.
func startShell(t *testing.T, env ...string) *shell {
	t.Helper()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	fd := int(terminal.Fd()) //nolint:gosec // a file descriptor is an int
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80})
	}
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s := &shell{t: t, terminal: terminal, shown: &syncbuffer.Buffer{}}
	cmd := exec.Command("bash", "--norc", "-i") //nolint:noctx // it ends with the terminal
	cmd.Env = append(os.Environ(), append(env, "TERM=xterm", "PS1=$ ")...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = other, other, other
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		buffer := make([]byte, 4096)
		for {
			n, err := terminal.Read(buffer)
			_, _ = s.shown.Write(buffer[:n])
			if err != nil {
				return // the terminal is closed
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = terminal.Close()
		<-read
	})
	return s
}

// write types keys.
func (s *shell) write(keys string) {
	s.t.Helper()
	if _, err := s.terminal.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// waitFor waits until the terminal shows a text after the last one.
func (s *shell) waitFor(text string) {
	s.t.Helper()
	wait.For(s.t, "the terminal to show "+text, func() bool {
		shown := s.shown.String()
		i := strings.Index(shown[s.seen:], text)
		if i < 0 {
			return false
		}
		s.seen += i + len(text)
		return true
	})
}
