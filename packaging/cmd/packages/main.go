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

	"github.com/MatthiasWiesner/tasker/packaging"
)

func main() {
	root := flag.String("root", "..", "the root of the sources")
	version := flag.String("version", "", "what the programs say of themselves (default: the packages' version)")
	assets := flag.Bool("assets", false, "only generate what the packages hold, for goreleaser")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := build(ctx, *root, *version, *assets); err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be done
	}
}

func build(ctx context.Context, root, programs string, assets bool) (err error) {
	o := packaging.Options{Programs: programs}
	if o.Root, err = filepath.Abs(root); err != nil {
		return err
	}
	if o.Version, err = packaging.Version(ctx, o.Root); err != nil {
		return err
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
	o.Out = filepath.Join(o.Root, "dist")
	names, err := packaging.Build(ctx, o)
	for _, name := range names {
		fmt.Println(filepath.Join("dist", name))
	}
	return err
}
