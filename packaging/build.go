package packaging

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/apk"  // the format apk
	_ "github.com/goreleaser/nfpm/v2/arch" // the format archlinux
	_ "github.com/goreleaser/nfpm/v2/deb"  // the format deb
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm" // the format rpm
)

// sums is the file with the checksums of all packages, for `sha256sum --check`.
const sums = "SHA256SUMS"

// untagged is a version with a fourth number, which is none of semver.
var untagged = regexp.MustCompile(`^\d+\.\d+\.\d+\.\d+$`)

// generated is where .goreleaser.yaml expects what Assets writes.
const generated = "packaging/generated"

// Options say what is built, and where.
type Options struct {
	// Root is the root of the sources.
	Root string
	// Out is where the packages go. Files of the same names are overwritten.
	Out string
	// Work is for the programs and all else that packages are made of.
	Work string
	// Version is that of the packages, Programs what the programs say of themselves.
	Version, Programs string
	// Time is that of all that is in the packages.
	Time time.Time
	// Architectures are as in GOARCH; empty: all that are described.
	Architectures []string
	// Formats are as in nfpm (deb, rpm, apk, archlinux); empty: all that are described.
	Formats []string
}

// Build makes all packages and their checksums; the same options make the same
// bytes, wherever and whenever. It returns the files' names.
func Build(ctx context.Context, o Options) ([]string, error) {
	d, err := describe(o.Root, o.Programs, o.Time)
	if err != nil {
		return nil, err
	}
	archs := d.architectures(o.Architectures)
	programs, err := o.compile(ctx, d, append(archs, runtime.GOARCH))
	if err != nil {
		return nil, err
	}
	if err := o.generate(ctx, d, programs); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the packages: %w", err)
	}
	var names []string
	for _, p := range d.packages {
		prog, err := d.program(p)
		if err != nil {
			return nil, err
		}
		for _, arch := range archs {
			for _, format := range p.Formats {
				if len(o.Formats) > 0 && !slices.Contains(o.Formats, format) {
					continue
				}
				name, err := o.pack(p, format, arch, prog.Binary, programs[built{prog.ID, arch}])
				if err != nil {
					return nil, fmt.Errorf("make the package %s, %s for %s: %w", p.PackageName, format, arch, err)
				}
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no packages are described for the architectures %q in the formats %q", o.Architectures, o.Formats)
	}
	return append(names, sums), o.checksums(names)
}

// built names a program for an architecture.
type built struct{ id, arch string }

// compile builds the programs, and returns their files.
func (o Options) compile(ctx context.Context, d *description, archs []string) (map[built]string, error) {
	programs := map[built]string{}
	for _, p := range d.programs {
		for _, arch := range archs {
			if programs[built{p.ID, arch}] != "" {
				continue
			}
			file := filepath.Join(o.assets(), "bin", arch, p.Binary)
			args := slices.Concat([]string{"build"}, p.Flags, []string{"-buildvcs=false", "-ldflags=" + strings.Join(p.LDFlags, " "), "-o", file, p.Main})
			cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // the description is ours
			cmd.Dir = o.Root
			cmd.Env = append(os.Environ(), append(p.Env, "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOWORK=off")...)
			if out, err := cmd.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("build %s for %s: %w\n%s", p.Binary, arch, err, out)
			}
			programs[built{p.ID, arch}] = file
		}
	}
	return programs, nil
}

// pack writes one package, and returns its name.
func (o Options) pack(p pack, format, arch, name, binary string) (string, error) {
	info, err := p.info(format)
	if err != nil {
		return "", err
	}
	info.Version, info.Arch = o.Version, arch
	if untagged.MatchString(o.Version) {
		info.VersionSchema = "none"
	}
	info.Contents = slices.Clone(info.Contents)
	for i, c := range info.Contents {
		c := *c // nfpm fills in what is missing
		if c.FileInfo != nil {
			own := *c.FileInfo
			c.FileInfo = &own
		}
		c.Source = o.source(c.Source)
		info.Contents[i] = &c
	}
	info.Contents = append(info.Contents, &files.Content{
		Source: binary, Destination: "/usr/bin/" + name, FileInfo: &files.ContentFileInfo{Mode: 0o755},
	})
	for _, file := range []*string{
		&info.Changelog, &info.Scripts.PreInstall, &info.Scripts.PostInstall, &info.Scripts.PreRemove, &info.Scripts.PostRemove,
		&info.APK.Scripts.PreUpgrade, &info.APK.Scripts.PostUpgrade, &info.ArchLinux.Scripts.PreUpgrade, &info.ArchLinux.Scripts.PostUpgrade,
	} {
		*file = o.source(*file)
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return "", err
	}
	info = nfpm.WithDefaults(info)
	target := packager.ConventionalFileName(info)
	var b bytes.Buffer
	if err := packager.Package(info, &b); err != nil {
		return "", err
	}
	content := b.Bytes()
	if format == "apk" {
		if content, err = sortControl(content); err != nil {
			return "", err
		}
	}
	return target, os.WriteFile(filepath.Join(o.Out, target), content, 0o644) //nolint:gosec // for everyone
}

// source is where a file that .goreleaser.yaml names is.
func (o Options) source(file string) string {
	if file == "" {
		return ""
	}
	if name, ok := strings.CutPrefix(file, generated+"/"); ok {
		return filepath.Join(o.assets(), name)
	}
	return filepath.Join(o.Root, file)
}

func (o Options) assets() string { return filepath.Join(o.Work, "generated") }

func (o Options) checksums(names []string) error {
	var b strings.Builder
	for _, name := range slices.Sorted(slices.Values(names)) {
		sum, err := checksum(filepath.Join(o.Out, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s  %s\n", sum, name)
	}
	if err := os.WriteFile(filepath.Join(o.Out, sums), []byte(b.String()), 0o644); err != nil { //nolint:gosec // for everyone
		return fmt.Errorf("write the checksums: %w", err)
	}
	return nil
}

func checksum(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("make a checksum: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("make the checksum of %s: %w", file, err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
