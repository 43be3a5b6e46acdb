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

// description is the part of .goreleaser.yaml that says what is built and what is
// in the packages.
type description struct {
	programs []program
	packages []pack
}

// program is an entry of the section builds.
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

// pack is an entry of the section nfpms: what goreleaser calls by another name than
// nfpm, or knows and nfpm does not, and else nfpm's own.
type pack struct {
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

// describe reads .goreleaser.yaml. A key of the two sections that is not honoured
// here is an error, so that goreleaser cannot build something else.
func describe(root string, version string, at time.Time) (*description, error) {
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
	if err := errors.Join(strictly(sections.Builds, &d.programs), strictly(sections.NFPMs, &d.packages)); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return d, d.check()
}

// check refuses what is not built here.
func (d *description) check() error {
	for _, p := range d.programs {
		if !slices.Equal(p.GOOS, []string{"linux"}) {
			return fmt.Errorf("build %s is for %q; packages are for linux only", p.ID, p.GOOS)
		}
	}
	for _, p := range d.packages {
		for _, c := range p.Contents {
			if text := c.Source + " " + c.Destination; strings.Contains(text, "{{") {
				return fmt.Errorf("package %s: there are no templates in contents, as in %s", p.ID, text)
			}
		}
	}
	return nil
}

// strictly decodes a section whose aliases are resolved.
func strictly(section, target any) error {
	content, err := yaml.Marshal(section)
	if err != nil {
		return err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	return decoder.Decode(target)
}

// architectures are those that are described, or of these the wanted ones.
func (d *description) architectures(wanted []string) []string {
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

// program is the one that a package holds.
func (d *description) program(p pack) (program, error) {
	for _, candidate := range d.programs {
		if slices.Equal(p.IDs, []string{candidate.ID}) {
			return candidate, nil
		}
	}
	return program{}, fmt.Errorf("package %s: its ids %q are not the id of one build", p.ID, p.IDs)
}

// info is the package in one format as nfpm wants it, but for the version, the
// architecture and the program.
func (p pack) info(format string) (*nfpm.Info, error) {
	c := nfpm.Config{
		Info: nfpm.Info{
			Overridables: p.depending(), Name: p.PackageName,
			Vendor: p.Vendor, Maintainer: p.Maintainer, Homepage: p.Homepage, License: p.License, Description: p.Description,
			Section: p.Section, Priority: p.Priority, Release: p.Release, MTime: p.MTime, Changelog: p.Changelog,
		},
		Overrides: map[string]*nfpm.Overridables{},
	}
	for name, o := range p.Overrides {
		merged := o.depending()
		c.Overrides[name] = &merged
	}
	info, err := c.Get(format)
	if err != nil {
		return nil, fmt.Errorf("package %s as %s: %w", p.ID, format, err)
	}
	return info, nil
}

func (o overridables) depending() nfpm.Overridables {
	o.Depends = o.Dependencies
	return o.Overridables
}
