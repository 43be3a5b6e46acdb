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

// walkTar visits the entries of a tar.gz file.
func walkTar(ctx context.Context, f *os.File, v visitor) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return damaged(err)
	}
	unzipped, err := gzip.NewReader(contextReader{ctx, f})
	if err != nil {
		return damaged(fmt.Errorf("it is not a gzip file: %w", err))
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
			continue // A comment, as git archive writes it.
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
		return entry{}, refuse("%q is neither a file, a directory nor a link (type %q); a release must not contain devices or pipes", h.Name, h.Typeflag)
	}
	return e, err
}

// walkZip visits the entries of a zip file.
func walkZip(ctx context.Context, f *os.File, entries int, v visitor) error {
	info, err := f.Stat()
	if err != nil {
		return damaged(err)
	}
	bounded := &directoryReader{f: f, remaining: directoryBase + int64(entries)*directoryPerEntry}
	archive, err := zip.NewReader(bounded, info.Size())
	if err != nil {
		return damaged(err)
	}
	bounded.remaining = math.MaxInt64 // The directory has been read.
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

// The limit of a zip file's directory in bytes; all of it is read into memory at once.
const (
	directoryBase     = 256 << 10
	directoryPerEntry = 512
)

// encrypted is the flag of an encrypted entry of a zip file.
const encrypted = 0x1

// directoryReader fails when more than the remaining bytes are read.
type directoryReader struct {
	f         *os.File
	remaining int64
}

func (r *directoryReader) ReadAt(p []byte, at int64) (int, error) {
	if r.remaining -= int64(len(p)); r.remaining < 0 {
		return 0, refuse("its directory is too large for the allowed number of entries; raise max_entries if that is right")
	}
	return r.f.ReadAt(p, at)
}

func visitZip(ctx context.Context, zf *zip.File, v visitor) error {
	// Some tools write a directory without the directory bit in its mode.
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
		return refuse("%q is neither a file, a directory nor a link (%s); a release must not contain devices or pipes", zf.Name, zf.Mode())
	}
	if zf.Flags&encrypted != 0 {
		return refuse("the archive is encrypted (%q); pack it without a password", zf.Name)
	}
	content, err := zf.Open()
	if err != nil {
		return fmt.Errorf("%s: %w", zf.Name, err)
	}
	defer content.Close()
	if e.kind == symlink {
		// A zip file stores the target as the content.
		target, err := io.ReadAll(io.LimitReader(content, maxName+1))
		if err != nil {
			return fmt.Errorf("%s: %w", zf.Name, err)
		}
		if len(target) > maxName {
			return refuse("the target of the link %q has more than %d bytes", zf.Name, maxName)
		}
		e.target = string(target)
	}
	return v(e, contextReader{ctx, content})
}
