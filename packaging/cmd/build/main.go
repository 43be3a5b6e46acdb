// Command packages builds the packages of tasker.
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
	flag.StringVar(&o.Root, "root", "..", "the root of the sources")
	flag.StringVar(&o.Out, "out", "", "where the packages go (default: dist below the root)")
	flag.StringVar(&o.Version, "version", "", "the packages' version (default: that of the commit)")
	flag.StringVar(&o.Programs, "programs", "", "what the programs say of themselves (default: the packages' version)")
	archs := flag.String("architectures", "", "those to build for, as amd64,arm64 (default: all)")
	formats := flag.String("formats", "", "those to build, as deb,rpm,apk,archlinux (default: all)")
	assets := flag.Bool("assets", false, "only generate what the packages hold, for goreleaser")
	flag.Parse()
	o.Architectures, o.Formats = list(*archs), list(*formats)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := build(ctx, o, *assets); err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be done
	}
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}

func build(ctx context.Context, o packaging.Options, assets bool) (err error) {
	if o.Root, err = filepath.Abs(o.Root); err != nil {
		return err
	}
	if o.Version == "" {
		if o.Version, err = packaging.Version(ctx, o.Root); err != nil {
			return err
		}
	}
	if o.Programs == "" {
		o.Programs = o.Version
	}
	if o.Time, err = packaging.Time(ctx, o.Root); err != nil {
		return err
	}
	if assets {
		o.Work = filepath.Join(o.Root, "packaging") // in generated, where .goreleaser.yaml expects it
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
