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

// fcntlHolder describes the process that has locked a file with fcntl(2), as dpkg, apt and
// rpm do. It returns an empty string if no process has.
func fcntlHolder(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK {
		return ""
	}
	return fmt.Sprintf("%s holds %s", describeProcess(int(lock.Pid)), path)
}

// pidFileHolder describes the process whose id is in a file, as dnf locks. It returns an
// empty string if that process has ended.
func pidFileHolder(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 || syscall.Kill(pid, 0) != nil {
		return ""
	}
	return fmt.Sprintf("%s holds %s", describeProcess(pid), path)
}

// describeProcess returns a description like "process 123 (apt-get install nginx)".
func describeProcess(pid int) string {
	if pid <= 0 {
		return "another process" // For example a process of another container.
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
