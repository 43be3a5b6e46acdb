package tasker

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ReservedPaths returns the paths at the root of the API that no task type may use
// as its name.
func ReservedPaths() []string {
	return []string{
		"endpoints", "metrics", "healthz", "readyz", "docs", "ui", "openapi.json", "openapi.yaml",
		"sd", "agent", "enrol", "tokens", "audit", "schemas",
	}
}

// ValidateEndpoint returns an error if name is not a valid endpoint name.
func ValidateEndpoint(name string) error {
	if !isValidName(name, 128) {
		return fmt.Errorf("endpoint %s: a name has 1 to 128 of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit", quote(name))
	}
	return nil
}

// ValidateTaskType returns an error if name is not a valid name of a task type.
func ValidateTaskType(name string) error {
	if !isValidName(name, 64) {
		return fmt.Errorf("task type %s: a name has 1 to 64 of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit", quote(name))
	}
	if slices.Contains(ReservedPaths(), name) {
		return fmt.Errorf("task type %s: the API reserves this name; choose another", quote(name))
	}
	return nil
}

// ValidateIdentifier returns an error if id is not a valid task identifier.
func ValidateIdentifier(id string) error {
	switch {
	case id == "":
		return errors.New("identifier is mandatory")
	case len(id) > 255:
		return fmt.Errorf("identifier has %d bytes; at most 255 are allowed", len(id))
	case !utf8.ValidString(id):
		return errors.New("identifier is not valid UTF-8")
	case strings.ContainsRune(id, '/'):
		return errors.New("identifier contains '/'")
	case strings.ContainsFunc(id, unicode.IsControl):
		return errors.New("identifier contains a control character")
	}
	return nil
}

// UndoIdentifier returns the identifier of the task that undoes an attempt of the
// task with this id.
func UndoIdentifier(id string, attempt int) string { return fmt.Sprintf("undo-%s-%d", id, attempt) }

// ValidateNewIdentifier returns an error if a client may not choose id for a new
// task. Identifiers of the form that UndoIdentifier returns are reserved.
func ValidateNewIdentifier(id string) error {
	if err := ValidateIdentifier(id); err != nil {
		return err
	}
	const uuid = len("01234567-89ab-cdef-0123-456789abcdef")
	rest, found := strings.CutPrefix(id, "undo-")
	if !found || len(rest) <= uuid+1 || rest[uuid] != '-' || !consistsOf(rest[uuid+1:], "0123456789") {
		return nil
	}
	for i, part := range strings.Split(rest[:uuid], "-") {
		if lengths := []int{8, 4, 4, 4, 12}; i >= len(lengths) || len(part) != lengths[i] || !consistsOf(part, "0123456789abcdef") {
			return nil
		}
	}
	return fmt.Errorf("identifier %s: undo-ID-ATTEMPT is reserved for tasks that undo other tasks; choose another identifier", quote(id))
}

// consistsOf reports whether every character of s is one of the allowed characters.
func consistsOf(s, allowed string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(allowed, r) })
}

// isValidName reports whether name has 1 to maxLength characters of a-z, 0-9, '.',
// '_' and '-', and begins with a letter or digit. It uses no regular expression,
// because compiling one would slow down each start of tasker-agent supervise.
func isValidName(name string, maxLength int) bool {
	if name == "" || len(name) > maxLength || strings.ContainsRune("._-", rune(name[0])) {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
}

// quote quotes a value for an error message and truncates it to 80 bytes.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return strconv.Quote(s)
}

// CheckOneOf returns the empty string if value is one of the allowed values. Otherwise
// it returns a message that continues a sentence that begins with a field's name.
func CheckOneOf[T ~string](value T, allowed ...T) string {
	if slices.Contains(allowed, value) {
		return ""
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	return fmt.Sprintf("is %s, but must be one of %s", quote(string(value)), strings.Join(names, ", "))
}
