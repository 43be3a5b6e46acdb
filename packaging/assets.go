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

// Assets generates the files of the packages that are not among the sources: manual
// pages, completions, maintainer scripts and the changelog. They are written to the
// directory generated below o.Work.
func Assets(ctx context.Context, o Options) error {
	d, err := readDescription(o.Root, o.ProgramVersion, o.Time)
	if err != nil {
		return err
	}
	programs, err := o.compile(ctx, d, []string{runtime.GOARCH})
	if err != nil {
		return err
	}
	return o.generate(ctx, d, programs)
}

func (o Options) generate(ctx context.Context, d *description, programs map[target]string) error {
	if err := os.MkdirAll(o.assets(), 0o755); err != nil {
		return fmt.Errorf("create a directory: %w", err)
	}
	for _, p := range d.packages {
		prog, err := d.programOf(p)
		if err != nil {
			return err
		}
		if err := o.generateDocuments(ctx, prog.Binary, programs[target{prog.ID, runtime.GOARCH}]); err != nil {
			return err
		}
		if p.Scripts.PostInstall != "" {
			if err := o.generateScripts(p.PackageName); err != nil {
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

// generateDocuments writes a program's manual page and completions, from its own output.
func (o Options) generateDocuments(ctx context.Context, name, binary string) error {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		out, err := output(ctx, binary, "completion", shell)
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
	text, err := manualPage(name, section, o.Time, func(command ...string) (string, error) {
		return output(ctx, binary, append(command, "--help")...)
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

// generateScripts writes a package's maintainer scripts: a head with the package's
// names, and the body that all packages share. User and state directory are the unit's.
func (o Options) generateScripts(name string) error {
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

// write creates a generated file with o.Time as its modification time, since some
// formats store that of the scripts.
func (o Options) write(name, content string) error {
	file := filepath.Join(o.assets(), name)
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil { //nolint:gosec // for everyone
		return fmt.Errorf("write a generated file: %w", err)
	}
	if err := os.Chtimes(file, o.Time, o.Time); err != nil {
		return fmt.Errorf("set the time of a generated file: %w", err)
	}
	return nil
}

// output runs a program with a fixed environment and returns its standard output.
func output(ctx context.Context, binary string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = []string{"HOME=/nonexistent", "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s %s: %w: %s", filepath.Base(binary), strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}
