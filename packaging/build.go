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

// checksumsFile has the checksums of all packages, for `sha256sum --check`.
const checksumsFile = "SHA256SUMS"

// untaggedVersion matches a version with a fourth number, which semver does not have.
var untaggedVersion = regexp.MustCompile(`^\d+\.\d+\.\d+\.\d+$`)

// generated is the directory in which .goreleaser.yaml expects the files of Assets.
const generated = "packaging/generated"

// Options configure a build.
type Options struct {
	// Root is the root directory of the sources.
	Root string
	// Out is the directory for the packages. Files of the same names are overwritten.
	Out string
	// Work is a directory for the programs and the generated files.
	Work string
	// Version is the version of the packages, ProgramVersion the one that the programs print.
	Version, ProgramVersion string
	// Time is the modification time of every file in the packages.
	Time time.Time
	// Architectures are values of GOARCH; empty means all in the description.
	Architectures []string
	// Formats are nfpm's (deb, rpm, apk, archlinux); empty means all in the description.
	Formats []string
	// Key signs the .deb and .rpm packages, and the checksums of all packages.
	Key Key
}

// Build creates all packages and the file with their checksums, and returns the names
// of the files. The same options give the same bytes on every machine and at any time,
// except for signatures.
func Build(ctx context.Context, o Options) ([]string, error) {
	if err := o.Key.check(); err != nil {
		return nil, err
	}
	d, err := readDescription(o.Root, o.ProgramVersion, o.Time)
	if err != nil {
		return nil, err
	}
	archs := d.selectArchitectures(o.Architectures)
	programs, err := o.compile(ctx, d, append(archs, runtime.GOARCH))
	if err != nil {
		return nil, err
	}
	if err := o.generate(ctx, d, programs); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return nil, fmt.Errorf("create the directory of the packages: %w", err)
	}
	var names []string
	for _, p := range d.packages {
		prog, err := d.programOf(p)
		if err != nil {
			return nil, err
		}
		for _, arch := range archs {
			for _, format := range o.selectFormats(p.Formats) {
				name, err := o.buildPackage(p, format, arch, prog.Binary, programs[target{prog.ID, arch}])
				if err != nil {
					return nil, fmt.Errorf("build the package %s, %s for %s: %w", p.PackageName, format, arch, err)
				}
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf(".goreleaser.yaml has no packages for the architectures %q in the formats %q", o.Architectures, o.Formats)
	}
	return o.finish(names)
}

// selectFormats returns the formats of a package that are to be built.
func (o Options) selectFormats(all []string) []string {
	if len(o.Formats) == 0 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(format string) bool { return !slices.Contains(o.Formats, format) })
}

// finish writes the checksums of the packages and their signature, and returns the names
// of all files.
func (o Options) finish(names []string) ([]string, error) {
	if err := o.writeChecksums(names); err != nil {
		return nil, err
	}
	if o.Key.File == "" {
		return append(names, checksumsFile), nil
	}
	return append(names, checksumsFile, signatureFile), o.signChecksums()
}

// target is a program for one architecture.
type target struct{ id, arch string }

// compile builds the programs and returns the paths of their files.
func (o Options) compile(ctx context.Context, d *description, archs []string) (map[target]string, error) {
	programs := map[target]string{}
	for _, p := range d.programs {
		for _, arch := range archs {
			if programs[target{p.ID, arch}] != "" {
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
			programs[target{p.ID, arch}] = file
		}
	}
	return programs, nil
}

// buildPackage writes one package and returns the name of its file.
func (o Options) buildPackage(p packageDescription, format, arch, name, binary string) (string, error) {
	info, err := p.info(format)
	if err != nil {
		return "", err
	}
	info.Version, info.Arch = o.Version, arch
	if untaggedVersion.MatchString(o.Version) {
		info.VersionSchema = "none"
	}
	info.Contents = slices.Clone(info.Contents)
	for i, c := range info.Contents {
		c := *c // nfpm fills in missing fields
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
	o.Key.configure(info)
	packager, err := nfpm.Get(format)
	if err != nil {
		return "", err
	}
	info = nfpm.WithDefaults(info)
	fileName := packager.ConventionalFileName(info)
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
	return fileName, os.WriteFile(filepath.Join(o.Out, fileName), content, 0o644) //nolint:gosec // for everyone
}

// source returns the path of a file that .goreleaser.yaml names.
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

func (o Options) writeChecksums(names []string) error {
	var b strings.Builder
	for _, name := range slices.Sorted(slices.Values(names)) {
		sum, err := checksum(filepath.Join(o.Out, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s  %s\n", sum, name)
	}
	if err := os.WriteFile(filepath.Join(o.Out, checksumsFile), []byte(b.String()), 0o644); err != nil { //nolint:gosec // for everyone
		return fmt.Errorf("write the checksums: %w", err)
	}
	return nil
}

func checksum(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("compute a checksum: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("compute the checksum of %s: %w", file, err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
