package packaging

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	"go.yaml.in/yaml/v3"
)

// description is the part of .goreleaser.yaml that lists the programs and packages.
type description struct {
	programs []program
	packages []packageDescription
}

// program is one entry of the section builds.
type program struct {
	ID           string   `yaml:"id"`
	Main         string   `yaml:"main"`
	Binary       string   `yaml:"binary"`
	Env          []string `yaml:"env"`
	Flags        []string `yaml:"flags"`
	LDFlags      []string `yaml:"ldflags"`
	ModTimestamp string   `yaml:"mod_timestamp"`
	GOOS         []string `yaml:"goos"`
	GOARCH       []string `yaml:"goarch"`
}

// packageDescription is one entry of the section nfpms. It has the keys that goreleaser
// names differently than nfpm or that nfpm does not have; the others are nfpm's own.
type packageDescription struct {
	overridables     `yaml:",inline"`
	ID               string                  `yaml:"id"`
	IDs              []string                `yaml:"ids"`
	PackageName      string                  `yaml:"package_name"`
	FileNameTemplate string                  `yaml:"file_name_template"`
	Formats          []string                `yaml:"formats"`
	Vendor           string                  `yaml:"vendor"`
	Maintainer       string                  `yaml:"maintainer"`
	Homepage         string                  `yaml:"homepage"`
	License          string                  `yaml:"license"`
	Description      string                  `yaml:"description"`
	Section          string                  `yaml:"section"`
	Priority         string                  `yaml:"priority"`
	Release          string                  `yaml:"release"`
	MTime            time.Time               `yaml:"mtime"`
	Changelog        string                  `yaml:"changelog"`
	Overrides        map[string]overridables `yaml:"overrides"`
}

type overridables struct {
	nfpm.Overridables `yaml:",inline"`
	Dependencies      []string `yaml:"dependencies"`
}

// readDescription reads .goreleaser.yaml. An unsupported key in the two sections is an
// error, since goreleaser would build different packages.
func readDescription(root string, version string, at time.Time) (*description, error) {
	file := filepath.Join(root, ".goreleaser.yaml")
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the description of the packages: %w", err)
	}
	text := strings.NewReplacer(
		"{{ .Version }}", version,
		"{{ .CommitDate }}", at.UTC().Format(time.RFC3339),
	).Replace(string(content))
	var sections struct {
		Builds any `yaml:"builds"`
		NFPMs  any `yaml:"nfpms"`
	}
	if err := yaml.Unmarshal([]byte(text), &sections); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	d := &description{}
	if err := errors.Join(decodeStrict(sections.Builds, &d.programs), decodeStrict(sections.NFPMs, &d.packages)); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return d, d.check()
}

// check returns an error for what this package cannot build.
func (d *description) check() error {
	for _, p := range d.programs {
		if !slices.Equal(p.GOOS, []string{"linux"}) {
			return fmt.Errorf("build %s is for %q; only linux is supported", p.ID, p.GOOS)
		}
	}
	for _, p := range d.packages {
		for _, c := range p.Contents {
			if text := c.Source + " " + c.Destination; strings.Contains(text, "{{") {
				return fmt.Errorf("package %s: templates in contents are not supported: %s", p.ID, text)
			}
		}
	}
	return nil
}

// decodeStrict decodes a section with resolved aliases; unknown keys are errors.
func decodeStrict(section, target any) error {
	content, err := yaml.Marshal(section)
	if err != nil {
		return err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	return decoder.Decode(target)
}

// selectArchitectures returns the described architectures that are wanted, all if wanted
// is empty.
func (d *description) selectArchitectures(wanted []string) []string {
	var archs []string
	for _, p := range d.programs {
		for _, arch := range p.GOARCH {
			if !slices.Contains(archs, arch) && (len(wanted) == 0 || slices.Contains(wanted, arch)) {
				archs = append(archs, arch)
			}
		}
	}
	return archs
}

// programOf returns the program that a package contains.
func (d *description) programOf(p packageDescription) (program, error) {
	for _, candidate := range d.programs {
		if slices.Equal(p.IDs, []string{candidate.ID}) {
			return candidate, nil
		}
	}
	return program{}, fmt.Errorf("package %s: ids %q must be the id of one build", p.ID, p.IDs)
}

// info returns nfpm's description of the package in one format, without version,
// architecture and program.
func (p packageDescription) info(format string) (*nfpm.Info, error) {
	c := nfpm.Config{
		Info: nfpm.Info{
			Overridables: p.withDependencies(), Name: p.PackageName,
			Vendor: p.Vendor, Maintainer: p.Maintainer, Homepage: p.Homepage, License: p.License, Description: p.Description,
			Section: p.Section, Priority: p.Priority, Release: p.Release, MTime: p.MTime, Changelog: p.Changelog,
		},
		Overrides: map[string]*nfpm.Overridables{},
	}
	for name, o := range p.Overrides {
		merged := o.withDependencies()
		c.Overrides[name] = &merged
	}
	info, err := c.Get(format)
	if err != nil {
		return nil, fmt.Errorf("package %s as %s: %w", p.ID, format, err)
	}
	return info, nil
}

// withDependencies returns nfpm's overridables with goreleaser's key dependencies.
func (o overridables) withDependencies() nfpm.Overridables {
	o.Depends = o.Dependencies
	return o.Overridables
}
