package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// headBytes is the size of the beginning of a file in which the kernel looks for its format
// and its interpreter (BINPRM_BUF_SIZE).
const headBytes = 256

// CheckHead returns an error if a script that begins with head cannot be run because of its
// line ends or its byte order mark. Editors for Windows write both.
func CheckHead(head []byte) error {
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf#!")):
		return errors.New(`it begins with a UTF-8 byte order mark (BOM), so the kernel does not find the "#!"; remove the mark: sed -i '1s/^\xEF\xBB\xBF//' FILE`)
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")):
		return errors.New("it is UTF-16 text, which cannot be run; convert it to UTF-8 without a byte order mark")
	}
	if line := interpreterLine(head); strings.HasSuffix(line, "\r") {
		return fmt.Errorf(`its first line names the interpreter %q: the file has Windows line ends (CRLF); convert it: sed -i 's/\r$//' FILE`, line)
	}
	return nil
}

// interpreterLine returns the text after "#!" in the first line, or "".
func interpreterLine(head []byte) string {
	rest, ok := bytes.CutPrefix(head, []byte("#!"))
	if !ok {
		return ""
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return strings.Trim(string(line), " \t")
}

// explainStart returns why the kernel could not execute an existing file, or "" if the errno
// says enough.
func explainStart(path string, errno error) string {
	if !errors.Is(errno, syscall.ENOENT) && !errors.Is(errno, syscall.ENOEXEC) {
		return ""
	}
	head, err := readHead(path)
	if err != nil {
		return "" // It does not exist, or only the kernel may read it.
	}
	if err := CheckHead(head); err != nil {
		return err.Error()
	}
	interpreter, _, _ := strings.Cut(interpreterLine(head), " ")
	isELF := bytes.HasPrefix(head, []byte("\x7fELF"))
	switch missing := errors.Is(errno, syscall.ENOENT); {
	case isELF && missing:
		return "the dynamic linker that it needs is not installed; it was built for another C library or architecture"
	case isELF:
		return "it was built for another architecture"
	case missing:
		return fmt.Sprintf("the interpreter %q in its first line", interpreter)
	case len(head) == 0:
		return "it is empty"
	case interpreter == "":
		return `its first line does not name an interpreter, like "#!/bin/sh"`
	}
	return ""
}

func readHead(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, headBytes))
}
