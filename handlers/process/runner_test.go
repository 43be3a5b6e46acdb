package process_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
)

func TestExit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		script string
		want   process.Exit
		err    string
	}{
		{"true", process.Exit{}, ""},
		{"exit 3", process.Exit{Code: 3}, "exit code 3"},
		{"exit 255", process.Exit{Code: 255}, "exit code 255"},
		{"kill -KILL $$", process.Exit{Code: 137, Signal: syscall.SIGKILL}, "killed by SIGKILL"},
		{"kill -TERM $$", process.Exit{Code: 143, Signal: syscall.SIGTERM}, "killed by SIGTERM"},
		{"kill -36 $$", process.Exit{Code: 164, Signal: 36}, "killed by signal 36"},
	}
	for _, tt := range tests {
		t.Run(tt.script, func(t *testing.T) {
			t.Parallel()
			withAndWithoutCgroup(t, func(t *testing.T, f *fixture) {
				exit, err := f.Run(t.Context(), f.sh(tt.script))
				if err != nil || exit != tt.want {
					t.Errorf("got %+v, %v, want %+v", exit, err, tt.want)
				}
				got := ""
				if exit.Err() != nil {
					got = exit.Err().Error()
				}
				if got != tt.err {
					t.Errorf("Err() = %q, want %q", got, tt.err)
				}
			})
		})
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		// A process that another test forks now would hold the file open for writing, and the
		// file could not be executed.
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := write("plain", "#!/bin/sh\n", 0o600)
	noInterpreter := write("nointerpreter", "#!/no/such/interpreter\n", 0o700)
	noFormat := write("noformat", "hello", 0o700)
	noName := write("noname", "#!\necho hello\n", 0o700)
	empty := write("empty", "", 0o700)
	windows := write("windows", "#!/bin/sh\r\necho hello\r\n", 0o700)
	windowsEnv := write("windowsenv", "#!/no/such/env bash\r\n", 0o700)
	marked := write("marked", "\ufeff#!/bin/sh\n", 0o700)
	utf16 := write("utf16", "\xff\xfe#\x00!\x00", 0o700)
	foreign := write("foreign", "\x7fELF"+strings.Repeat("\x00", 100), 0o700)
	tests := []struct {
		name string
		spec process.Spec
		is   error
		want string
	}{
		{"not found", process.Spec{Argv: []string{"/no/such"}}, fs.ErrNotExist, "start /no/such: no such file or directory"},
		{"not executable", process.Spec{Argv: []string{plain}}, fs.ErrPermission, "start " + plain + ": permission denied"},
		{"a directory", process.Spec{Argv: []string{dir}}, fs.ErrPermission, "start " + dir + ": permission denied"},
		{"no interpreter", process.Spec{Argv: []string{noInterpreter}}, fs.ErrNotExist, "start " + noInterpreter + `: the interpreter "/no/such/interpreter" in its first line: no such file or directory`},
		{"no format", process.Spec{Argv: []string{noFormat}}, syscall.ENOEXEC, "start " + noFormat + `: its first line does not name an interpreter, like "#!/bin/sh": exec format error`},
		{"no name", process.Spec{Argv: []string{noName}}, syscall.ENOEXEC, "start " + noName + `: its first line does not name an interpreter, like "#!/bin/sh": exec format error`},
		{"empty", process.Spec{Argv: []string{empty}}, syscall.ENOEXEC, "start " + empty + ": it is empty: exec format error"},
		{"Windows line ends", process.Spec{Argv: []string{windows}}, fs.ErrNotExist, "start " + windows + `: its first line names the interpreter "/bin/sh\r": the file has Windows line ends (CRLF); convert it: sed -i 's/\r$//' FILE: no such file or directory`},
		{"Windows line ends after an argument", process.Spec{Argv: []string{windowsEnv}}, fs.ErrNotExist, "start " + windowsEnv + `: its first line names the interpreter "/no/such/env bash\r": the file has Windows line ends (CRLF); convert it: sed -i 's/\r$//' FILE: no such file or directory`},
		{"byte order mark", process.Spec{Argv: []string{marked}}, syscall.ENOEXEC, "start " + marked + `: it begins with a UTF-8 byte order mark (BOM), so the kernel does not find the "#!"; remove the mark: sed -i '1s/^\xEF\xBB\xBF//' FILE: exec format error`},
		{"UTF-16", process.Spec{Argv: []string{utf16}}, syscall.ENOEXEC, "start " + utf16 + ": it is UTF-16 text, which cannot be run; convert it to UTF-8 without a byte order mark: exec format error"},
		{"another architecture", process.Spec{Argv: []string{foreign}}, syscall.ENOEXEC, "start " + foreign + ": it was built for another architecture: exec format error"},
		{"no cwd", process.Spec{Argv: []string{"/bin/true"}, Dir: "/no/such"}, fs.ErrNotExist, "cwd /no/such: no such file or directory"},
		{"cwd a file", process.Spec{Argv: []string{"/bin/true"}, Dir: plain}, syscall.ENOTDIR, "cwd " + plain + ": not a directory"},
		{"too long", process.Spec{Argv: []string{"/bin/true", strings.Repeat("x", 1<<20)}}, syscall.E2BIG, "start /bin/true: argument list too long"},
		{"NUL", process.Spec{Argv: []string{"/bin/true", "a\x00b"}}, syscall.EINVAL, "start /bin/true: invalid argument"},
		{"no path", process.Spec{Argv: []string{"true"}}, nil, "start a command: argv does not begin with a path"},
		{"nothing", process.Spec{}, nil, "start a command: argv does not begin with a path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			withAndWithoutCgroup(t, func(t *testing.T, f *fixture) {
				_, err := f.Run(t.Context(), tt.spec)
				var start *process.StartError
				if !errors.As(err, &start) || err.Error() != tt.want || tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("got %v, want %s", err, tt.want)
				}
			})
		})
	}
}

func TestInputOutputAndEnvironment(t *testing.T) {
	t.Parallel()
	t.Run("stdin larger than a pipe", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, "")
		in := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		spec := f.spec("/bin/cat")
		spec.Stdin = bytes.NewReader(in)
		if _, err := f.Run(t.Context(), spec); err != nil || f.out.String() != string(in) {
			t.Errorf("got %d bytes, want %d: %v", len(f.out.String()), len(in), err)
		}
	})
	t.Run("stdin that is not read", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, "")
		spec := f.spec("/bin/true")
		spec.Stdin = bytes.NewReader(make([]byte, 1<<20))
		if exit, err := f.Run(t.Context(), spec); err != nil || exit.Code != 0 {
			t.Errorf("got %+v, %v", exit, err)
		}
	})
	t.Run("10 MB of output", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, "")
		if _, err := f.Run(t.Context(), f.sh("head -c 10000000 /dev/zero; echo end >&2")); err != nil {
			t.Error(err)
		}
		if got := f.out.String(); len(got) != 10_000_004 || !strings.HasSuffix(got, "end\n") {
			t.Errorf("got %d bytes", len(got))
		}
	})
	t.Run("separate stdout and stderr", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, "")
		var out, errs bytes.Buffer
		spec := f.sh("echo out; echo err >&2")
		spec.Stdout, spec.Stderr = &out, &errs
		if _, err := f.Run(t.Context(), spec); err != nil || out.String() != "out\n" || errs.String() != "err\n" {
			t.Errorf("got %q, %q, %v", &out, &errs, err)
		}
	})
	t.Run("no stdin and no writers", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, "")
		spec := f.sh("read line; echo out; echo err >&2; exit 7")
		spec.Stdout, spec.Stderr = nil, nil
		if exit, err := f.Run(t.Context(), spec); err != nil || exit.Code != 7 {
			t.Errorf("got %+v, %v", exit, err)
		}
	})
	t.Run("failing writer does not block the command", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, "")
		spec := f.sh("head -c 1000000 /dev/zero")
		spec.Stdout, spec.Stderr = failingWriter{}, nil
		if _, err := f.Run(t.Context(), spec); !errors.Is(err, errFull) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("environment, directory and descriptors", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, "")
		spec := f.sh("env | cut -d= -f1 | sort | tr '\\n' ' '; pwd; ls /proc/self/fd | tr '\\n' ' '")
		spec.Dir = "/usr"
		if _, err := f.Run(t.Context(), spec); err != nil {
			t.Error(err)
		}
		// 3 is the directory that ls reads.
		want := "HOME LANG PATH PWD TASKER_ATTEMPT TASKER_ENDPOINT TASKER_IDENTIFIER TASKER_TASK_ID TASKER_TYPE /usr\n0 1 2 3 "
		if got := f.out.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

var errFull = errors.New("disk is full")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }

func TestRecordProcessGetsSupervisorAndCommand(t *testing.T) {
	t.Parallel()
	withAndWithoutCgroup(t, func(t *testing.T, f *fixture) {
		if _, err := f.Run(t.Context(), f.sh("echo $$; cat /proc/self/cgroup")); err != nil {
			t.Fatal(err)
		}
		if len(f.recorded) != 2 {
			t.Fatalf("recorded %v", f.recorded)
		}
		command := f.recorded[1]
		pid, rest, _ := strings.Cut(f.out.String(), "\n")
		if got := itoa(command.PID); got != pid || command.StartTime == 0 {
			t.Errorf("recorded %+v, but the command is %s", command, pid)
		}
		if f.Cgroup == "" && command.Cgroup != "" {
			t.Errorf("recorded the cgroup %s", command.Cgroup)
		}
		if f.Cgroup != "" && !strings.Contains(rest, "/"+filepath.Base(command.Cgroup)+"\n") {
			t.Errorf("recorded the cgroup %q, but the command is in %s", command.Cgroup, rest)
		}
	})
}

func TestRecordProcessErrorEndsTheTree(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for call := range 2 {
		t.Run([]string{"supervisor", "command"}[call], func(t *testing.T) {
			t.Parallel()
			withAndWithoutCgroup(t, func(t *testing.T, f *fixture) {
				calls := 0
				spec := f.sh("sleep 1000")
				spec.RecordProcess = func(handlers.Process) error {
					calls++
					if calls == call+1 {
						return boom
					}
					return nil
				}
				if _, err := f.Run(t.Context(), spec); !errors.Is(err, boom) || calls != call+1 {
					t.Errorf("got %v after %d calls", err, calls)
				}
			})
		})
	}
}

func TestRunReturnsTheCauseOfTheContext(t *testing.T) {
	t.Parallel()
	withAndWithoutCgroup(t, func(t *testing.T, f *fixture) {
		t.Run("done before the start", func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(handlers.ErrStopping)
			if _, err := f.Run(ctx, f.sh("echo no")); !errors.Is(err, handlers.ErrStopping) || f.out.String() != "" {
				t.Errorf("got %v, %q", err, f.out)
			}
		})
		t.Run("done while the command runs", func(t *testing.T) {
			exit, err := f.cancelWhen("ready", f.sh("echo ready; sleep 1000"))
			if !errors.Is(err, handlers.ErrCancelled) || exit.Signal != syscall.SIGTERM {
				t.Errorf("got %+v, %v", exit, err)
			}
		})
		t.Run("done while the command cleans up", func(t *testing.T) {
			spec := f.sh("trap 'echo cleaned; exit 5' TERM; echo set; while :; do sleep 0.05; done")
			spec.Grace = maxWait
			exit, err := f.cancelWhen("set", spec)
			if !errors.Is(err, handlers.ErrCancelled) || exit.Code != 5 || !strings.Contains(f.out.String(), "cleaned") {
				t.Errorf("got %+v, %v, %q", exit, err, f.out)
			}
		})
	})
}

func BenchmarkTrue(b *testing.B) {
	runner := &process.Runner{Log: slog.New(slog.DiscardHandler)}
	for b.Loop() {
		if _, err := runner.Run(b.Context(), process.Spec{Argv: []string{"/bin/true"}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTrueUnsupervised(b *testing.B) {
	for b.Loop() {
		if err := exec.Command("/bin/true").Run(); err != nil {
			b.Fatal(err)
		}
	}
}
