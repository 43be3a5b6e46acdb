package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// installer downloads and unpacks the release of one call.
type installer struct {
	spec
	*progress
	deployer *deployer
	app      *appDir
}

// install makes sure that the release exists, and reports whether it had to be
// installed.
func (i *installer) install(ctx context.Context) (installed bool, err error) {
	found, err := i.isInstalled()
	if err != nil {
		return false, err
	}
	if found {
		return false, i.removePartials("") // A crash can leave them.
	}
	file, err := i.download(ctx)
	if err != nil {
		return false, err
	}
	defer file.Close()
	err = i.unpack(ctx, file)
	if err != nil {
		err = errors.Join(err, i.app.removeAll(unpackDir))
	}
	if ctx.Err() == nil {
		err = errors.Join(err, i.removePartials(""))
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("the disk is full: %w; free some space below %s and run the task again", err, i.Directory)
	}
	return true, err
}

// isInstalled reports whether the release exists. It rejects a version that was
// installed from another file: that release may be current.
func (i *installer) isInstalled() (bool, error) {
	r, found, err := i.app.findRelease(i.Version)
	if found && r.SHA256 != i.SHA256 {
		err = handlers.Reject("the release %s is already on this server, from another file: its SHA-256 is %s; the content of a version never changes, so name another version", i.Version, r.SHA256)
	}
	return found, err
}

func (i *installer) download(ctx context.Context) (*os.File, error) {
	authorization, err := i.deployer.authorization(i.spec)
	if err != nil {
		return nil, err
	}
	shown := fetch.Redact(i.source)
	i.start("download", 0, "downloading "+shown)
	return i.deployer.fetcher.Get(ctx, fetch.Request{
		URL: i.source, Authorization: authorization, SHA256: i.SHA256, MaxSize: i.MaxSize,
		Dir: i.app.root, Name: ownDir + "/" + i.SHA256 + partialSuffix,
		CheckSpace: i.checkSpace, Log: i.call.Output,
		Progress: func(received, total int64) {
			if total > 0 {
				i.call.Progress(50*float64(received)/float64(total), fmt.Sprintf("downloading %s: %s of %s", shown, formatSize(received), formatSize(total)))
			} else {
				i.call.Progress(0, fmt.Sprintf("downloading %s: %s", shown, formatSize(received)))
			}
		},
	})
}

// unpack creates the release from the downloaded file.
func (i *installer) unpack(ctx context.Context, file *os.File) error {
	i.start("unpack", 50, "unpacking "+i.Version)
	if err := i.app.root.Mkdir(unpackDir, 0o755); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	to, err := i.app.root.OpenRoot(unpackDir)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer func() { _ = to.Close() }()
	if i.format == plain {
		err = i.copyFile(to, file)
	} else {
		err = i.unpackArchive(ctx, to, file)
	}
	if err != nil {
		return err
	}
	// All of the release must be on the disk before it gets its name.
	dir, err := to.Open(".")
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("write the release to the disk: %w", err)
	}
	if err := i.app.writeJSON(recordFile(i.Version), releaseRecord{SHA256: i.SHA256, InstalledAt: time.Now().UTC()}); err != nil {
		return err
	}
	if err := i.app.rename(unpackDir, releasesDir+"/"+i.Version); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	i.start("unpack", 60, "the release "+i.Version+" is complete")
	return nil
}

func (i *installer) unpackArchive(ctx context.Context, to *os.Root, file *os.File) error {
	a, err := archive.Open(ctx, file, i.format, archive.Limits{Bytes: i.MaxUnpackedSize, Entries: i.MaxEntries})
	if err != nil {
		return err
	}
	// Besides its content, each entry takes at least one block.
	if err := i.checkSpace(a.Bytes + 4096*int64(a.Entries)); err != nil {
		return err
	}
	return a.Unpack(to)
}

// copyFile creates a release from a file that is not an archive.
func (i *installer) copyFile(to *os.Root, file *os.File) error {
	fi, err := file.Stat()
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if err := i.checkSpace(fi.Size()); err != nil {
		return err
	}
	if err := to.MkdirAll(path.Dir(i.Name), 0o755); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	out, err := to.OpenFile(i.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	_, err = io.Copy(out, file)
	return errors.Join(err, out.Chmod(i.mode&^0o022), out.Close())
}

// removePartials removes the partial downloads of all tasks, except that of the file
// with the SHA-256 to keep.
func (i *installer) removePartials(keep string) error {
	entries, err := fs.ReadDir(i.app.root.FS(), ownDir)
	for _, e := range entries {
		sha256, _, isPartial := strings.Cut(e.Name(), partialSuffix)
		if isPartial && sha256 != keep {
			err = errors.Join(err, i.app.removeAll(ownDir+"/"+e.Name()))
		}
	}
	return err
}

// checkSpace returns an error if the disk has fewer free bytes than needed, even
// without the partial downloads of other files.
func (i *installer) checkSpace(needed int64) error {
	err := i.app.checkSpace(needed)
	if err == nil {
		return nil
	}
	if removeErr := i.removePartials(i.SHA256); removeErr != nil {
		return errors.Join(err, removeErr)
	}
	return i.app.checkSpace(needed)
}
