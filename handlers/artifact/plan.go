package artifact

import (
	"context"
	"fmt"
	"strings"

	"github.com/MatthiasWiesner/tasker/handlers/artifact/fetch"
	"github.com/MatthiasWiesner/tasker/handlers/trust"
)

// plan says what perform would do. It reads, and asks the server for the size.
func (d *deployment) plan(ctx context.Context) error {
	d.out.Plan = true
	if _, err := trust.CheckDir(d.Directory); err != nil {
		return err
	}
	p, err := look(d.Directory)
	if err != nil {
		return err
	}
	defer p.close()
	d.place = p
	current, good, open, err := d.state()
	if err != nil {
		return err
	}
	found, err := d.there()
	if err != nil {
		return err
	}
	if found && current == d.Version && open == nil {
		d.out.Note = d.Version + " is current already"
		return nil
	}
	d.out.Changed = true
	if !found {
		size, err := d.head(ctx)
		if err != nil {
			return err
		}
		d.would("download %s (%s)", fetch.Redact(d.from), size)
		d.would("unpack it into %s/%s/%s", d.Directory, releasesDir, d.Version)
	}
	if len(d.Hooks.Before) > 0 && current != d.Version {
		d.would("run the hook %s", strings.Join(d.Hooks.Before, " "))
	}
	d.would("switch from %s to %s", orElse(current, "none"), d.Version)
	if d.Unit != "" {
		d.would("restart %s", d.Unit)
	}
	if len(d.Hooks.After) > 0 {
		d.would("run the hook %s", strings.Join(d.Hooks.After, " "))
	}
	if d.Health != nil {
		d.would("check whether it is healthy, and if not switch back to %s", orElse(good, "none"))
	}
	keep := d.Keep
	if !found {
		keep-- // It takes the place of one.
	}
	gone, err := p.surplus(keep, d.Version, good)
	if err != nil {
		return err
	}
	for _, version := range gone {
		d.would("remove the release %s", version)
	}
	return nil
}

func (d *deployment) would(format string, args ...any) {
	d.out.Would = append(d.out.Would, fmt.Sprintf(format, args...))
}

// head asks how large the download is.
func (d *deployment) head(ctx context.Context) (string, error) {
	authorization, err := d.authorization()
	if err != nil {
		return "", err
	}
	size, err := d.fetcher.Head(ctx, d.from, authorization)
	switch {
	case err != nil:
		return "", err
	case size > d.MaxSize:
		return "", fmt.Errorf("%s has %d bytes, and max_size is %d", fetch.Redact(d.from), size, d.MaxSize)
	case size < 0:
		return "of unknown size", nil
	}
	return bytes(size), nil
}
