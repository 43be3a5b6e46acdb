package archive

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"
)

func walkTar(ctx context.Context, f *os.File, v visit) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return damaged(err)
	}
	unzipped, err := gzip.NewReader(withContext{ctx, f})
	if err != nil {
		return damaged(fmt.Errorf("it is no gzip: %w", err))
	}
	archive := tar.NewReader(unzipped)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return damaged(err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue // a comment, as by git archive
		}
		e, err := tarEntry(h)
		if err == nil {
			err = v(e, archive)
		}
		if err != nil {
			return damaged(err)
		}
	}
}

func tarEntry(h *tar.Header) (entry, error) {
	name, err := localName(h.Name)
	if err != nil {
		return entry{}, err
	}
	e := entry{name: name, mode: h.FileInfo().Mode(), time: h.ModTime}
	switch h.Typeflag {
	case tar.TypeDir:
		e.kind = directory
	case tar.TypeReg, tar.TypeGNUSparse:
		e.kind, e.size = file, h.Size
	case tar.TypeSymlink:
		e.kind, e.target = symlink, h.Linkname
	case tar.TypeLink:
		e.kind = hardlink
		e.target, err = localName(h.Linkname)
	default:
		return entry{}, refuse("%q is neither file, directory nor link (type %q); devices and pipes have no place in a release", h.Name, h.Typeflag)
	}
	return e, err
}

func walkZip(ctx context.Context, f *os.File, entries int, v visit) error {
	info, err := f.Stat()
	if err != nil {
		return damaged(err)
	}
	bounded := &directoryReader{f: f, left: perFile + int64(entries)*perEntry}
	archive, err := zip.NewReader(bounded, info.Size())
	if err != nil {
		return damaged(err)
	}
	bounded.left = math.MaxInt64 // the directory is read
	for _, zf := range archive.File {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := visitZip(ctx, zf, v); err != nil {
			return damaged(err)
		}
	}
	return nil
}

// How much a zip's directory may have, all of which is read into memory at once.
const (
	perFile  = 256 << 10
	perEntry = 512
)

// directoryReader refuses to read more than that.
type directoryReader struct {
	f    *os.File
	left int64
}

func (r *directoryReader) ReadAt(p []byte, at int64) (int, error) {
	if r.left -= int64(len(p)); r.left < 0 {
		return 0, refuse("its directory is too large for the entries that are allowed; raise max_entries if that is right")
	}
	return r.f.ReadAt(p, at)
}

func visitZip(ctx context.Context, zf *zip.File, v visit) error {
	// Some tools write a directory with a mode that says nothing of it.
	isDir := strings.HasSuffix(zf.Name, "/") || zf.Mode().IsDir()
	name, err := localName(zf.Name)
	if err != nil {
		return err
	}
	e := entry{name: name, mode: zf.Mode(), time: zf.Modified}
	switch {
	case isDir:
		e.kind = directory
		return v(e, nil)
	case zf.Mode().IsRegular():
		e.kind, e.size = file, int64(min(zf.UncompressedSize64, 1<<62))
	case zf.Mode().Type() == fs.ModeSymlink:
		e.kind = symlink
	default:
		return refuse("%q is neither file, directory nor link (%s); devices and pipes have no place in a release", zf.Name, zf.Mode())
	}
	content, err := zf.Open()
	if err != nil {
		return fmt.Errorf("%s: %w", zf.Name, err)
	}
	defer content.Close()
	if e.kind == symlink {
		// It is the content.
		target, err := io.ReadAll(io.LimitReader(content, maxName+1))
		if err != nil {
			return fmt.Errorf("%s: %w", zf.Name, err)
		}
		if len(target) > maxName {
			return refuse("the target of the link %q has more than %d bytes", zf.Name, maxName)
		}
		e.target = string(target)
	}
	return v(e, withContext{ctx, content})
}
