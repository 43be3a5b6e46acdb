package file_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/file"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.writeFile("a.conf", "old", 0o640)
	old := map[string]string{"a.conf": "rw-r----- old"}
	check := func(script string) string {
		b, err := json.Marshal(script)
		if err != nil {
			t.Fatal(err)
		}
		return f.payload("a.conf", `"content":"new","backup":true,"validate":["sh","-c",`+string(b)+`,"{}"]`)
	}
	for script, want := range map[string]string{
		`echo "line 3: bad" >&2; exit 4`: "does not accept the new file: exit code 4: line 3: bad",
		`kill -9 $$`:                     "killed by SIGKILL",
		`echo more >> $0`:                "is not as it was written",
		`rm $0`:                          "is not as it was written",
		`rm $0; ln -s a.conf $0`:         "is a symbolic link",
		`chmod 777 $0`:                   "is not as it was written",
		`echo newer > ` + f.dir + `/b; cat ` + f.dir + `/b > ` + f.dir + `/a.conf; rm ` + f.dir + `/b`: "it was changed by another program",
	} {
		got := f.perform(check(script))
		if got.err == nil || got.Changed || !strings.Contains(got.err.Error(), want) {
			t.Errorf("%s: %+v, want %s", script, got, want)
		}
		if strings.Contains(script, "newer") {
			f.wantFiles(map[string]string{"a.conf": "rw-r----- newer\n"})
			f.writeFile("a.conf", "old", 0o640)
		}
		f.wantFiles(old)
	}
	if got := f.dryRun(check("exit 1")); got.err != nil || !got.Changed || got.Backup == "" {
		t.Errorf("the dry run must not validate: %+v", got)
	}
	if got := f.undo(check("exit 1")); got.err != nil || got.Changed {
		t.Errorf("the task had changed nothing: %+v", got)
	}
	// The command sees the complete file with the suffix of its own name.
	got := f.perform(check(`case $0 in *.conf) cat $0; stat -c %a $0;; esac`))
	if got.err != nil || !got.Changed || got.out != "new640\n" {
		t.Errorf("got %+v", got)
	}
	f.wantFiles(map[string]string{"a.conf": "rw-r----- new", "a.conf.tasker-bak": "rw-r----- old"})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.writeFile("a", "old", 0o644)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(handlers.ErrCancelled)
	for _, more := range []string{`"content":"new"`, `"state":"absent"`} {
		if got := f.call(ctx, "", "task-1", f.payload("a", more)); !errors.Is(got.err, handlers.ErrCancelled) || got.Changed {
			t.Errorf("%s: %+v", more, got)
		}
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	h, _ := f.Lookup(file.Name)
	started := make(chan struct{}, 2)
	go func() {
		<-started
		<-started
		cancel(handlers.ErrTimedOut)
	}()
	_, err := h.Handle(ctx, handlers.Call{
		TaskID: "task-1", Payload: json.RawMessage(f.payload("a", `"content":"new","validate":["sh","-c","sleep 3600","{}"]`)),
		Progress: func(float64, string) {}, Output: t.Output(),
		RecordProcess: func(handlers.Process) error { started <- struct{}{}; return nil },
	})
	if !errors.Is(err, handlers.ErrTimedOut) {
		t.Errorf("got %v", err)
	}
	f.wantFiles(map[string]string{"a": "rw-r--r-- old"})
}
