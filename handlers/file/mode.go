package file

import (
	"fmt"
	"io/fs"
	"strconv"
)

// permissionBits are the bits of a file's mode that the handler reads and writes.
const permissionBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// The bits before the permissions, as in chmod(2).
const (
	setuid = 0o4000
	setgid = 0o2000
	sticky = 0o1000
)

// parseMode reads four octal digits, as in chmod(1).
func parseMode(s string) (fs.FileMode, error) {
	bits, err := strconv.ParseUint(s, 8, 12)
	if err != nil || len(s) != 4 {
		return 0, fmt.Errorf("%q is not four octal digits, like 0644", s)
	}
	mode := fs.FileMode(bits) & fs.ModePerm
	for bit, flag := range specialBits() {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode, nil
}

// formatMode returns four octal digits.
func formatMode(mode fs.FileMode) string {
	bits := uint64(mode.Perm())
	for bit, flag := range specialBits() {
		if mode&flag != 0 {
			bits |= bit
		}
	}
	return fmt.Sprintf("%04o", bits)
}

func specialBits() map[uint64]fs.FileMode {
	return map[uint64]fs.FileMode{setuid: fs.ModeSetuid, setgid: fs.ModeSetgid, sticky: fs.ModeSticky}
}
