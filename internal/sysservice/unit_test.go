package sysservice_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/sysservice"
)

const text = "[Service]\nExecStartPre=/usr/bin/thing check\nExecStart=/usr/bin/thing run\n"

// The operations that need systemd are tested on the test hosts.
func TestUnitRefusesForeignUnits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file, content string
		act                 func(*sysservice.Unit) error
		want                error
	}{
		{"install over a package", "usr/lib/systemd/system", text, (*sysservice.Unit).Install, sysservice.ErrPackaged},
		{"install over an old package", "lib/systemd/system", text, (*sysservice.Unit).Install, sysservice.ErrPackaged},
		{"install over a unit", "etc/systemd/system", text, (*sysservice.Unit).Install, sysservice.ErrInstalled},
		{"uninstall a unit of a package", "usr/lib/systemd/system", text, (*sysservice.Unit).Uninstall, sysservice.ErrPackaged},
		{"uninstall a unit of the administrator", "etc/systemd/system", text, (*sysservice.Unit).Uninstall, sysservice.ErrForeign},
		{"uninstall nothing", "", "", (*sysservice.Unit).Uninstall, sysservice.ErrNotInstalled},
		{"start nothing", "", "", (*sysservice.Unit).Start, sysservice.ErrNotInstalled},
		{"stop nothing", "", "", (*sysservice.Unit).Stop, sysservice.ErrNotInstalled},
		{"restart nothing", "", "", (*sysservice.Unit).Restart, sysservice.ErrNotInstalled},
		{"status of nothing", "", "", func(u *sysservice.Unit) error { _, err := u.Status(); return err }, sysservice.ErrNotInstalled},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			file := filepath.Join(root, test.file, "thing.service")
			if test.file != "" {
				if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			u, err := sysservice.NewUnit(sysservice.UnitOptions{Name: "thing", Text: text, Program: "/opt/thing", Root: root})
			if err != nil {
				t.Fatal(err)
			}
			if err := test.act(u); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if test.file != "" {
				if got, err := os.ReadFile(file); err != nil || string(got) != test.content { //nolint:gosec // in t.TempDir
					t.Errorf("the unit is now %q, %v", got, err)
				}
			}
		})
	}
}

// Install writes the unit of the package with another program and configuration.
func TestUnitContainsProgramAndConfiguration(t *testing.T) {
	t.Parallel()
	const packaged = "[Service]\nExecStart=/usr/bin/thing run --config /etc/thing.yaml\nEnvironmentFile=-/etc/thing.yaml.d\n"
	for config, want := range map[string]string{"": "/etc/thing.yaml", "/srv/a.yaml": "/srv/a.yaml"} {
		root := t.TempDir()
		dir := filepath.Join(root, "etc/systemd/system")
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		installed := "# Made by `thing service install`; `thing service uninstall` removes it.\n" +
			"[Service]\nExecStart=/opt/thing run --config " + want + "\nEnvironmentFile=-/etc/thing.yaml.d\n"
		if err := os.WriteFile(filepath.Join(dir, "thing.service"), []byte(installed), 0o600); err != nil {
			t.Fatal(err)
		}
		u, err := sysservice.NewUnit(sysservice.UnitOptions{Name: "thing", Text: packaged, Program: "/opt/thing", Config: config, Root: root})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Install(); !errors.Is(err, sysservice.ErrInstalled) || strings.Contains(err.Error(), "other content") {
			t.Errorf("--config %q does not match the installed unit: %v", config, err)
		}
	}
}

func TestInstallRequiresTheConfiguration(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	u, err := sysservice.NewUnit(sysservice.UnitOptions{
		Name: "thing", Text: "[Service]\nExecStart=/usr/bin/thing run --config /etc/thing.yaml\n",
		Program: "/opt/thing", Config: filepath.Join(root, "thing.yaml"), Root: root,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Install(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), root+"/thing.yaml: no such file or directory; write it first") {
		t.Errorf("got %v", err)
	}
}

func TestNewUnitInvalid(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, program, config, want string }{
		{"a relative program", text, "thing", "", "plain absolute path"},
		{"a program with a space", text, "/opt/my thing", "", "plain absolute path"},
		{"a program with a specifier", text, "/opt/%n", "", "plain absolute path"},
		{"a configuration with a space", text, "/opt/thing", "/etc/my thing.yaml", "plain absolute path"},
		{"a unit without a program", "[Service]\n", "/opt/thing", "", "ExecStart"},
		{"a unit without a configuration", text, "/opt/thing", "/etc/thing.yaml", "--config"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := sysservice.NewUnit(sysservice.UnitOptions{Name: "thing", Text: test.text, Program: test.program, Config: test.config})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want …%s…", err, test.want)
			}
		})
	}
}

func TestCommandReturnsTheErrorOfNewUnit(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, verb := range []string{"install", "uninstall", "start", "stop", "restart", "status"} {
		cmd := sysservice.Command(func() (*sysservice.Unit, error) { return nil, broken })
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs([]string{verb})
		if err := cmd.ExecuteContext(t.Context()); !errors.Is(err, broken) {
			t.Errorf("service %s: %v", verb, err)
		}
	}
}
