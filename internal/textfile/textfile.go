// Package textfile prepares the content of text files that people write, whatever editor
// they use.
package textfile

import (
	"bytes"
	"errors"
)

// TrimMark returns the content without the UTF-8 byte order mark that some editors write at
// its beginning. Content in UTF-16 is an error.
func TrimMark(content []byte) ([]byte, error) {
	if bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")) {
		return nil, errors.New("the file is in UTF-16; save it in UTF-8")
	}
	return bytes.TrimPrefix(content, []byte("\xef\xbb\xbf")), nil
}
