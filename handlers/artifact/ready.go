package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/artifact/archive"
	"github.com/MatthiasWiesner/tasker/handlers/artifact/fetch"
)

// ready has the release there, complete, and says whether it had to be made.
func (d *deployment) ready(ctx context.Context) (made bool, err error) {
	found, err := d.there()
	if err != nil {
		return false, err
	}
	if found {
		return false, d.clearParts("") // as after a crash
	}
	file, err := d.download(ctx)
	if err != nil {
		return false, err
	}
	defer file.Close()
	err = d.unpack(ctx, file)
	if err != nil {
		err = errors.Join(err, d.place.clear(unpackDir))
	}
	if ctx.Err() == nil {
		err = errors.Join(err, d.clearParts(""))
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("the disk is full: %w; make room below %s and run the task again", err, d.Directory)
	}
	return true, err
}

// there says whether the release is complete already. One of another file is
// refused: it may be the one that serves.
func (d *deployment) there() (bool, error) {
	n, found, err := d.place.release(d.Version)
	if found && n.SHA256 != d.SHA256 {
		err = handlers.Reject("the release %s is on this server already, of another file: its SHA-256 is %s; what a version names never changes, so name another version", d.Version, n.SHA256)
	}
	return found, err
}

func (d *deployment) download(ctx context.Context) (*os.File, error) {
	authorization, err := d.authorization()
	if err != nil {
		return nil, err
	}
	shown := fetch.Redact(d.from)
	d.step("download", 0, "downloading "+shown)
	return d.fetcher.Get(ctx, fetch.Request{
		URL: d.from, Authorization: authorization, SHA256: d.SHA256, Max: d.MaxSize,
		Dir: d.place.root, Name: ownDir + "/" + d.SHA256 + partSuffix,
		Room: d.room, Log: d.call.Output,
		Progress: func(have, total int64) {
			if total > 0 {
				d.call.Progress(50*float64(have)/float64(total), fmt.Sprintf("downloading %s: %s of %s", shown, bytes(have), bytes(total)))
			} else {
				d.call.Progress(0, fmt.Sprintf("downloading %s: %s", shown, bytes(have)))
			}
		},
	})
}

// unpack makes the release of the file.
func (d *deployment) unpack(ctx context.Context, file *os.File) error {
	d.step("unpack", 50, fmt.Sprintf("unpacking %s", d.Version))
	if err := d.place.root.Mkdir(unpackDir, 0o755); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	to, err := d.place.root.OpenRoot(unpackDir)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer func() { _ = to.Close() }()
	if d.format == plain {
		err = d.copyTo(to, file)
	} else {
		err = d.unpackArchive(ctx, to, file)
	}
	if err != nil {
		return err
	}
	// All of it is to be on the disk before it can be seen.
	dir, err := to.Open(".")
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("write the release to the disk: %w", err)
	}
	if err := d.place.put(notesDir+"/"+d.Version+".json", note{SHA256: d.SHA256, At: time.Now().UTC()}); err != nil {
		return err
	}
	if err := d.place.rename(unpackDir, releasesDir+"/"+d.Version); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	d.step("unpack", 60, "the release "+d.Version+" is complete")
	return nil
}

func (d *deployment) unpackArchive(ctx context.Context, to *os.Root, file *os.File) error {
	a, err := archive.Open(ctx, file, d.format, archive.Limits{Bytes: d.MaxUnpackedSize, Entries: d.MaxEntries})
	if err != nil {
		return err
	}
	// Each entry takes a block beside its bytes, or more.
	if err := d.room(a.Bytes + 4096*int64(a.Entries)); err != nil {
		return err
	}
	return a.Unpack(to)
}

// copyTo makes the release of a file that is no archive.
func (d *deployment) copyTo(to *os.Root, file *os.File) error {
	fi, err := file.Stat()
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if err := d.room(fi.Size()); err != nil {
		return err
	}
	if err := to.MkdirAll(path.Dir(d.Name), 0o755); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	out, err := to.OpenFile(d.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	_, err = io.Copy(out, file)
	return errors.Join(err, out.Chmod(d.mode&^0o022), out.Close())
}

// clearParts removes what was downloaded, of tasks that nobody has tried again, too;
// but not of the file that is spared.
func (d *deployment) clearParts(spared string) error {
	entries, err := fs.ReadDir(d.place.root.FS(), ownDir)
	for _, e := range entries {
		sha256, _, isPart := strings.Cut(e.Name(), partSuffix)
		if isPart && sha256 != spared {
			err = errors.Join(err, d.place.clear(ownDir+"/"+e.Name()))
		}
	}
	return err
}

// room says whether so many bytes more can be written. Parts of other files do not
// stand in the way.
func (d *deployment) room(need int64) error {
	err := d.place.room(need)
	if err == nil {
		return nil
	}
	if clearErr := d.clearParts(d.SHA256); clearErr != nil {
		return errors.Join(err, clearErr)
	}
	return d.place.room(need)
}

// room says whether so many bytes more can be written.
func (p *place) room(need int64) error {
	dir, err := p.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return fmt.Errorf("ask for the free space below %s: %w", p.path, err)
	}
	free := int64(min(st.Bavail, math.MaxInt64/uint64(st.Bsize))) * st.Bsize
	if free < need {
		return fmt.Errorf("there is no room for it below %s: %s are needed, and %s are free; make room, say with a smaller keep, and run the task again", p.path, bytes(need), bytes(free))
	}
	return nil
}

// bytes is a size as people read it.
func bytes(n int64) string {
	size, unit := float64(n), "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if size < 1024 {
			break
		}
		size, unit = size/1024, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", size, unit)
}
