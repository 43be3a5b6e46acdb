package artifact_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/artifact"
)

// A failure before the switch does not change the current release.
func TestFailBeforeTheSwitch(t *testing.T) {
	t.Parallel()
	other := func(f fixture, p map[string]any, names files) {
		q := f.payload("other", names)
		p["url"], p["sha256"] = q["url"], q["sha256"]
	}
	tests := []struct {
		name string
		edit func(f fixture, p map[string]any)
		step string
		want string
	}{
		{"sum", func(_ fixture, p map[string]any) { p["sha256"] = strings.Repeat("0", 64) }, "download", "as in the task; correct the task"},
		{"no file", func(_ fixture, p map[string]any) { p["url"] = "file:///no/such.zip" }, "download", "no such file or directory on this server"},
		{"no such host", func(_ fixture, p map[string]any) { p["url"] = "https://tasker.invalid/app.zip" }, "download", "tasker.invalid"},
		{"too large", func(_ fixture, p map[string]any) { p["max_size"] = 10 }, "download", "max_size is 10"},
		{"not a zip file", func(_ fixture, p map[string]any) { p["format"] = "zip" }, "unpack", "read the archive: zip: not a valid zip file"},
		{"name that leads up", func(f fixture, p map[string]any) { other(f, p, files{"../../../evil": "x"}) }, "unpack", "leads out of the directory"},
		{"absolute", func(f fixture, p map[string]any) { other(f, p, files{f.home + "/evil": "x"}) }, "unpack", "is absolute"},
		{"through a link", func(f fixture, p map[string]any) { other(f, p, files{"l": "-> ../..", "l/evil": "x"}) }, "unpack", "leads out of the directory"},
		{"bomb", func(f fixture, p map[string]any) { p["max_unpacked_size"] = 100 }, "unpack", "raise max_unpacked_size"},
		{"many entries", func(f fixture, p map[string]any) { p["max_entries"] = 3 }, "unpack", "raise max_entries"},
		{"hook", func(f fixture, p map[string]any) { other(f, p, files{"fails-before": ""}) }, "hook before", "the hook before, bin/hook of 1.1, failed: exit code 1"},
		{"hook that explains its failure", func(f fixture, p map[string]any) {
			other(f, p, files{"bin/hook": "#!/bin/sh\n{ printf '\\033[31mno \\377 such table\\033[0m\\n'; echo; echo 'ask the DBA'; } >&2; echo cleaning up; exit 3\n"})
		}, "hook before", "the hook before, bin/hook of 1.1, failed: exit code 3: no \uFFFD such table; ask the DBA"},
		{"no hook", func(f fixture, p map[string]any) { p["hooks"] = map[string]any{"before": []string{"bin/none"}} }, "hook before", "no such file"},
		{"hook that is a directory", func(f fixture, p map[string]any) { p["hooks"] = map[string]any{"before": []string{"bin"}} }, "hook before", "releases/1.1/bin is not an executable file"},
		{"foreign release", func(f fixture, _ map[string]any) { must(os.MkdirAll(f.app()+"/releases/1.1", 0o755)) }, "enter", "was not deployed by this handler; move it away"},
		{"release that is a link", func(f fixture, _ map[string]any) { must(os.Symlink("1.0", f.app()+"/releases/1.1")) }, "enter", "was not deployed by this handler"},
		{"writable by others", func(f fixture, _ map[string]any) { must(os.Chmod(f.app()+"/releases", 0o777)) }, "enter", "could run programs as the agent: chmod go-w "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.deployPlain("t1", "1.0")
			p := f.payload("1.1", files{"VERSION": "1.1"})
			tt.edit(f, p)
			// If no name server responds, the download is retried for half of the time.
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			a := f.do(ctx, call{task: "t2", payload: p})
			f.wantError(a, tt.want)
			if a.Changed || a.SwitchedBack || a.Step != tt.step || tt.step != "enter" && a.Current != "1.0" {
				t.Errorf("got %+v", a.Outcome)
			}
			f.wantCurrent("1.0")
			if _, err := os.Stat(f.home + "/evil"); err == nil {
				t.Error("it wrote outside of the directory")
			}
			a = f.do(t.Context(), call{task: "t3", action: tasker.Undo, undoes: "t2", payload: p})
			if a.err == nil && a.Changed {
				t.Errorf("the undo changed something: %+v", a)
			}
		})
	}
}

// The handler refuses a link that it did not make.
func TestForeignLink(t *testing.T) {
	t.Parallel()
	for want, make := range map[string]func(current string) error{
		"is not a link; move it away":    func(c string) error { return os.Mkdir(c, 0o755) },
		"points to /etc and not to a":    func(c string) error { return os.Symlink("/etc", c) },
		"points to releases/../../x and": func(c string) error { return os.Symlink("releases/../../x", c) },
	} {
		f := newFixture(t)
		must(os.Mkdir(f.app(), 0o755))
		must(make(f.app() + "/current"))
		f.wantError(f.do(t.Context(), call{task: "t1", payload: f.payload("1.0", nil)}), want)
		f.wantError(f.do(t.Context(), call{task: "t1", action: tasker.DryRun, payload: f.payload("1.0", nil)}), want)
	}
	// An absolute link to a release, as other tools make it, is accepted.
	f := newFixture(t)
	f.deploy("t1", "1.0", nil)
	must(os.Remove(f.app() + "/current"))
	must(os.Symlink(f.app()+"/releases/1.0", f.app()+"/current"))
	if a := f.deploy("t2", "1.1", nil); a.From != "1.0" {
		t.Errorf("got %+v", a)
	}
}

func TestReject(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tests := []struct {
		key   string
		value any
		want  string
	}{
		{"directory", "/srv/other", `add "/srv/other" to handlers.artifact.allow`},
		{"directory", f.app() + "/", ": write it as " + f.app()},
		{"directory", f.app() + "/../app", ": write it as " + f.app()},
		{"directory", f.app() + "/releases/1.0", "to handlers.artifact.allow"},
		{"directory", "app", "payload.directory"},
		{"unit", "sshd.service", `add "sshd.service" to handlers.service.allow`},
		{"unit", "-Hroot@evil.service", "payload.unit"},
		{"unit", "app", "payload.unit"},
		{"url", "https://user:hunter2@host/a.zip", "payload.url has a user or a password in it"},
		{"url", "ftp://host/a.zip", "payload.url"},
		{"url", "file://host/a.zip", "payload.url"},
		{"url", "file:///srv/../a.zip", "is not the plain path of a file"},
		{"url", "http://ho st/a.zip", "payload.url is not a URL"},
		{"url", "https://host/app", "payload.format is missing"},
		{"sha256", "abc", "payload.sha256"},
		{"version", "../1", "payload.version"},
		{"version", ".1", "payload.version"},
		{"version", "a/b", "payload.version"},
		{"version", "", "payload.version"},
		{"format", "rar", "payload.format"},
		{"format", "plain", "payload.name is missing"},
		{"name", "app", "can be used with format plain only"},
		{"name", "../app", "payload.name"},
		{"mode", "4755", "payload.mode"},
		{"keep", 0, "payload.keep"},
		{"max_size", 0, "payload.max_size"},
		{"hooks", map[string]any{"before": []string{}}, "payload.hooks.before"},
		{"hooks", map[string]any{"before": []string{"/bin/sh"}}, "payload.hooks.before"},
		{"hooks", map[string]any{"before": []string{"../../bin/sh"}}, "is not a path inside the release"},
		{"hooks", map[string]any{"after": "bin/x"}, "payload.hooks.after"},
		{"health", map[string]any{}, "payload.health"},
		{"health", map[string]any{"http": "http://h/", "tcp": "h:1"}, "payload.health"},
		{"health", map[string]any{"http": "http://user:hunter2@h/"}, "payload.health.http"},
		{"health", map[string]any{"command": []string{"bin/../../../x"}}, "is not a path inside the release"},
		{"shell", "true", "payload.shell"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.key, tt.value), func(t *testing.T) {
			t.Parallel()
			p := f.payload(fmt.Sprintf("v%x", tt.want), nil)
			p[tt.key] = tt.value
			a := f.do(t.Context(), call{task: "t1", payload: p})
			var reject *handlers.RejectError
			var invalid *handlers.PayloadError
			if !errors.As(a.err, &reject) && !errors.As(a.err, &invalid) || !strings.Contains(a.err.Error(), tt.want) || strings.Contains(a.err.Error(), "hunter2") {
				t.Errorf("got %v, want %q", a.err, tt.want)
			}
		})
	}
}

// A task can fetch only from the sources, and send only the tokens, that the agent's
// configuration allows; by default none.
func TestRejectSourcesAndTokensThatAreNotAllowed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	token := f.home + "/token"
	must(os.WriteFile(token, []byte("hunter2\n"), 0o600))
	must(f.allow([]string{"https://host.invalid", "http://host.invalid", "https://*"}, "/no/such", token))
	for name, tt := range map[string]struct{ url, token, want string }{
		"unsafe":        {"http://host.invalid/a.zip", token, "the token could be read on its way"},
		"no token file": {"https://host.invalid/a.zip", "/no/such", "token_file: open /no/such: no such file"},
		"other token":   {"https://host.invalid/a.zip", "/etc/machine-id", `add "/etc/machine-id" to handlers.artifact.token_files`},
		"wildcard host": {"https://evil.invalid/a.zip", token, `only to a host that its configuration names without a wildcard: add "https://evil.invalid" to handlers.artifact.sources`},
		"other scheme":  {"http://evil.invalid/a.zip", "", `add "http://evil.invalid" to handlers.artifact.sources`},
		"local file":    {"file:///etc/shadow", "", `add "file:///etc" to handlers.artifact.sources`},
	} {
		for _, action := range []tasker.Action{tasker.Perform, tasker.DryRun} {
			p := f.payload("1.0", nil)
			p["url"], p["format"] = tt.url, "zip"
			if tt.token != "" {
				p["token_file"] = tt.token
			}
			a := f.do(t.Context(), call{task: "t1", action: action, payload: p})
			var reject *handlers.RejectError
			if !strings.Contains(fmt.Sprint(a.err), tt.want) || errors.As(a.err, &reject) == (name == "no token file") {
				t.Errorf("%s: got %v, want a rejection with %q", name, a.err, tt.want)
			}
		}
	}
	// The default.
	h, err := artifact.New(artifact.Options{Allow: []string{f.app()}, Units: units{f.server}})
	must(err)
	f.mux, err = handlers.NewMux(h)
	must(err)
	f.wantError(f.do(t.Context(), call{task: "t2", payload: f.payload("1.0", nil)}), "/mirror\" to handlers.artifact.sources")
}

// A configuration that no longer allows a source does not prevent an undo.
func TestUndoAfterTheSourceWasRemoved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.deployPlain("t1", "1.0")
	f.deployPlain("t2", "1.1")
	p := f.payload("1.1", nil)
	p["url"] = "https://host.invalid/app.tar.gz"
	if a := f.do(t.Context(), call{task: "t3", action: tasker.Undo, undoes: "t2", payload: p}); a.err != nil {
		t.Error(a.err)
	}
	f.wantCurrent("1.0")
}

func TestRejectAnotherFileForTheVersion(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.deploy("t1", "1.0", nil)
	for _, action := range []tasker.Action{tasker.Perform, tasker.DryRun} {
		a := f.do(t.Context(), call{task: "t2", action: action, payload: f.payload("1.0", files{"more": ""})})
		var reject *handlers.RejectError
		if !errors.As(a.err, &reject) || !strings.Contains(a.err.Error(), "so name another version") {
			t.Errorf("got %v", a.err)
		}
	}
	f.wantCurrent("1.0")
}

func TestInvalidAllowList(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"", "/", "app", "/srv/app/", "/srv/../app"} {
		if _, err := artifact.New(artifact.Options{Allow: []string{"/srv/app", dir}}); err == nil || !strings.Contains(err.Error(), "handlers.artifact: allow[1]") {
			t.Errorf("%q: %v", dir, err)
		}
	}
	for key, o := range map[string]artifact.Options{"sources": {Sources: []string{"mirror"}}, "token_files": {TokenFiles: []string{"token"}}} {
		if _, err := artifact.New(o); err == nil || !strings.Contains(err.Error(), key+"[0]") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// The agent does not run programs that others can change.
func TestHookThatOthersCanChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.deployPlain("t1", "1.0")
	f.deployPlain("t2", "1.1")
	must(os.Chmod(f.app()+"/releases/1.0/bin", 0o777))
	a := f.do(t.Context(), call{task: "t3", payload: f.payload("1.0", nil)})
	f.wantError(a, "releases/1.0/bin is writable by its group or by others")
	f.wantCurrent("1.1")
}

// A user who can write to a parent directory could replace the directory of the application.
func TestDirectoryThatOthersCanReplace(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]os.FileMode{"by its group": 0o775, "by others": 0o777} {
		f := newFixture(t)
		must(os.Chmod(f.home, mode))
		a := f.do(t.Context(), call{task: "t1", payload: f.payload("1.0", nil), progress: func(message string) {
			if message != "checking whether 1.0 is healthy" {
				return
			}
			must(os.Rename(f.app(), f.app()+".moved"))
			must(os.MkdirAll(f.app()+"/releases/1.0/bin", 0o755))
			must(os.WriteFile(f.app()+"/releases/1.0/bin/healthy", []byte("#!/bin/sh\ntouch "+f.home+"/evil\n"), 0o755))
		}})
		f.wantError(a, f.home+" is writable by its group or by others")
		if _, err := os.Stat(f.home + "/evil"); err == nil {
			t.Errorf("writable %s: a program was run that is not of the release", name)
		}
		if _, err := os.Stat(f.app()); err == nil {
			t.Errorf("writable %s: the directory was created", name)
		}
		f.wantError(f.do(t.Context(), call{task: "t1", action: tasker.DryRun, payload: f.payload("1.0", nil)}), f.home+" is writable")
	}
}
