package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// sortControl sorts the scripts of an unsigned .apk, which nfpm writes in the order of a
// map, so that builds are reproducible. An .apk is a gzip stream with a tar of control
// files, without the end-of-archive blocks, followed by a gzip stream with the files.
func sortControl(apk []byte) ([]byte, error) {
	r := bytes.NewReader(apk) // an io.ByteReader, so that gzip reads nothing beyond the first stream
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("read the package: %w", err)
	}
	z.Multistream(false)
	type entry struct {
		header  *tar.Header
		content []byte
	}
	var entries []entry
	for control := tar.NewReader(z); ; {
		header, err := control.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the control files: %w", err)
		}
		content, err := io.ReadAll(control)
		if err != nil {
			return nil, fmt.Errorf("read the control files: %w", err)
		}
		entries = append(entries, entry{header, content})
	}
	if _, err := io.Copy(io.Discard, z); err != nil {
		return nil, fmt.Errorf("read the control files: %w", err)
	}
	// .PKGINFO must come first, and sorts before the scripts.
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.header.Name, b.header.Name) })
	var b bytes.Buffer
	out := gzip.NewWriter(&b)
	control := tar.NewWriter(out)
	for _, e := range entries {
		if err := control.WriteHeader(e.header); err != nil {
			return nil, fmt.Errorf("write the control files: %w", err)
		}
		if _, err := control.Write(e.content); err != nil {
			return nil, fmt.Errorf("write the control files: %w", err)
		}
	}
	if err := errors.Join(control.Flush(), out.Close()); err != nil {
		return nil, fmt.Errorf("write the control files: %w", err)
	}
	return append(b.Bytes(), apk[len(apk)-r.Len():]...), nil
}
