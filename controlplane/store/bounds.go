package store

import "strings"

// maxName bounds a name (instance, session, person), in bytes.
const maxName = 64

// truncate returns valid UTF-8 of at most about n bytes.
func truncate(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
