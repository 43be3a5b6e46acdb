package packaging

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// Assets writes what the packages hold and the sources do not: the manual pages and
// completions, which the programs know best, the maintainer scripts and the change
// log. They are below o.Work, in generated.
func Assets(ctx context.Context, o Options) error {
	d, err := describe(o.Root, o.Programs, o.Time)
	if err != nil {
		return err
	}
	programs, err := o.compile(ctx, d, []string{runtime.GOARCH})
	if err != nil {
		return err
	}
	return o.generate(ctx, d, programs)
}

func (o Options) generate(ctx context.Context, d *description, programs map[built]string) error {
	if err := os.MkdirAll(o.assets(), 0o755); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	for _, p := range d.packages {
		prog, err := d.program(p)
		if err != nil {
			return err
		}
		if err := o.documents(ctx, prog.Binary, programs[built{prog.ID, runtime.GOARCH}]); err != nil {
			return err
		}
		if p.Scripts.PostInstall != "" {
			if err := o.scripts(p.PackageName); err != nil {
				return err
			}
		}
	}
	if len(d.packages) == 0 {
		return nil
	}
	return o.write("changelog.yaml", fmt.Sprintf(`- semver: %s-%s
  date: %s
  packager: %s
  deb: {urgency: medium, distributions: [stable]}
  changes:
    - note: "What changed: %s/releases"
`, o.Version, d.packages[0].Release, o.Time.Format(time.RFC3339), d.packages[0].Maintainer, d.packages[0].Homepage))
}

// documents asks the program for its manual page and completions.
func (o Options) documents(ctx context.Context, name, binary string) error {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		out, err := ask(ctx, binary, "completion", shell)
		if err != nil {
			return err
		}
		if err := o.write(name+"."+shell, out); err != nil {
			return err
		}
	}
	section := "8"
	if name == "tasker" {
		section = "1"
	}
	text, err := page(name, section, o.Time, func(command ...string) (string, error) {
		return ask(ctx, binary, append(command, "--help")...)
	})
	if err != nil {
		return err
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return fmt.Errorf("compress the manual page: %w", err)
	}
	if _, err := z.Write([]byte(text)); err != nil {
		return fmt.Errorf("compress the manual page: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("compress the manual page: %w", err)
	}
	return o.write(name+"."+section+".gz", b.String())
}

var (
	unitUser  = regexp.MustCompile(`(?m)^User=(\S+)$`)
	unitState = regexp.MustCompile(`(?m)^StateDirectory=(\S+)$`)
)

// scripts makes a package's maintainer scripts of those that all share: the unit
// says who its user is and where its state is kept.
func (o Options) scripts(name string) error {
	unit, err := os.ReadFile(filepath.Join(o.Root, "packaging/units", name+".service"))
	if err != nil {
		return fmt.Errorf("read the unit: %w", err)
	}
	state := unitState.FindSubmatch(unit)
	if state == nil {
		return fmt.Errorf("the unit of %s has no StateDirectory=", name)
	}
	user := "root"
	if match := unitUser.FindSubmatch(unit); match != nil {
		user = string(match[1])
	}
	for script, from := range map[string]struct{ file, step string }{
		"postinstall": {"postinstall", "install"},
		"postupgrade": {"postinstall", "upgrade"},
		"preremove":   {"preremove", ""},
		"postremove":  {"postremove", ""},
	} {
		body, err := os.ReadFile(filepath.Join(o.Root, "packaging/scripts", from.file+".sh"))
		if err != nil {
			return fmt.Errorf("read a maintainer script: %w", err)
		}
		head := fmt.Sprintf("#!/bin/sh\n# shellcheck disable=SC2034 # not every script needs all of these\nprogram=%s\nuser=%s\nstate=/var/lib/%s\n", name, user, state[1])
		if from.step != "" {
			head += "step=" + from.step + "\n"
		}
		if err := o.write(name+"."+script, head+string(body)); err != nil {
			return err
		}
	}
	return nil
}

// write makes a file of the packages' time: some formats have that of a script in them.
func (o Options) write(name, content string) error {
	file := filepath.Join(o.assets(), name)
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil { //nolint:gosec // for everyone
		return fmt.Errorf("write what the packages hold: %w", err)
	}
	if err := os.Chtimes(file, o.Time, o.Time); err != nil {
		return fmt.Errorf("date what the packages hold: %w", err)
	}
	return nil
}

// ask returns what a program prints. It is kept from what the environment might
// change in that.
func ask(ctx context.Context, binary string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = []string{"HOME=/nonexistent", "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ask %s %s: %w: %s", filepath.Base(binary), strings.Join(args, " "), err, complaint.String())
	}
	return string(out), nil
}
