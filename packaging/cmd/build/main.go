// Command build builds tasker's packages.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/MatthiasWiesner/tasker/packaging"
)

func main() {
	var o packaging.Options
	flag.StringVar(&o.Root, "root", "..", "root directory of the sources")
	flag.StringVar(&o.Out, "out", "", "directory for the packages (default: dist below the root)")
	flag.StringVar(&o.Version, "version", "", "version of the packages (default: derived from the commit)")
	flag.StringVar(&o.ProgramVersion, "programs", "", "version that the programs print (default: the version of the packages)")
	archs := flag.String("architectures", "", "architectures, such as amd64,arm64 (default: all)")
	formats := flag.String("formats", "", "formats, such as deb,rpm,apk,archlinux (default: all)")
	flag.StringVar(&o.Key.File, "key", "", "file with the OpenPGP private key that signs packages and checksums, with its passphrase in PACKAGE_KEY_PASSPHRASE (default: no signatures)")
	assets := flag.Bool("assets", false, "only generate the files of the packages, for goreleaser")
	flag.Parse()
	o.Key.Passphrase = os.Getenv("PACKAGE_KEY_PASSPHRASE")
	o.Architectures, o.Formats = list(*archs), list(*formats)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := build(ctx, o, *assets); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1) //nolint:gocritic // the deferred stop has nothing to free
	}
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}

func build(ctx context.Context, o packaging.Options, assets bool) (err error) {
	if o.Key.File != "" {
		if o.Key.File, err = filepath.Abs(o.Key.File); err != nil {
			return err
		}
	}
	if o.Root, err = filepath.Abs(o.Root); err != nil {
		return err
	}
	if o.Version == "" {
		if o.Version, err = packaging.Version(ctx, o.Root); err != nil {
			return err
		}
	}
	if o.ProgramVersion == "" {
		o.ProgramVersion = o.Version
	}
	if o.Time, err = packaging.Time(ctx, o.Root); err != nil {
		return err
	}
	if assets {
		o.Work = filepath.Join(o.Root, "packaging") // .goreleaser.yaml expects packaging/generated
		return packaging.Assets(ctx, o)
	}
	if o.Work, err = os.MkdirTemp("", "tasker-packages-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.Work)) }()
	if o.Out == "" {
		o.Out = filepath.Join(o.Root, "dist")
	}
	names, err := packaging.Build(ctx, o)
	for _, name := range names {
		fmt.Println(filepath.Join(o.Out, name))
	}
	return err
}
