package ospackage

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockedBy says who has locked a file as dpkg, apt and rpm do, with fcntl(2). It is
// empty where nobody has.
func lockedBy(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK {
		return ""
	}
	return fmt.Sprintf("%s holds %s", processOf(int(lock.Pid)), path)
}

// pidIn says whose process id a file has, as dnf locks. It is empty where that
// process has ended.
func pidIn(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 || syscall.Kill(pid, 0) != nil {
		return ""
	}
	return fmt.Sprintf("%s holds %s", processOf(pid), path)
}

// processOf is "process 123 (apt-get install nginx)".
func processOf(pid int) string {
	if pid <= 0 {
		return "another process" // of another container, say
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(b) == 0 {
		return fmt.Sprintf("process %d", pid)
	}
	command := strings.Join(strings.Fields(string(bytes.ReplaceAll(b, []byte{0}, []byte{' '}))), " ")
	if len(command) > 100 {
		command = command[:100] + "…"
	}
	return fmt.Sprintf("process %d (%s)", pid, strings.ToValidUTF8(command, ""))
}
