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

// ReservedPaths are the paths at the root of the API that the API needs itself,
// so that no task type can have their names.
func ReservedPaths() []string {
	return []string{
		"endpoints", "metrics", "healthz", "readyz", "docs", "ui", "openapi.json", "openapi.yaml",
		"sd", "agent", "enrol", "tokens", "audit", "schemas",
	}
}

// ValidateEndpoint says what is wrong with an endpoint's name, or nil.
func ValidateEndpoint(name string) error {
	if !plain(name, 128) {
		return fmt.Errorf("endpoint %s: a name has 1 to 128 of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit", quote(name))
	}
	return nil
}

// ValidateTaskType says what is wrong with a task type's name, or nil.
func ValidateTaskType(name string) error {
	if !plain(name, 64) {
		return fmt.Errorf("task type %s: a name has 1 to 64 of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit", quote(name))
	}
	if slices.Contains(ReservedPaths(), name) {
		return fmt.Errorf("task type %s: the API needs this name itself; choose another", quote(name))
	}
	return nil
}

// ValidateIdentifier says what is wrong with a customer's identifier, or nil.
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

// UndoIdentifier is the identifier of the task that undoes an attempt of the task with
// this id.
func UndoIdentifier(id string, attempt int) string { return fmt.Sprintf("undo-%s-%d", id, attempt) }

// ValidateNewIdentifier says what is wrong with the identifier that a customer gives a
// new task, or nil: those that UndoIdentifier makes are not the customer's to give.
func ValidateNewIdentifier(id string) error {
	if err := ValidateIdentifier(id); err != nil {
		return err
	}
	const uuid = len("01234567-89ab-cdef-0123-456789abcdef")
	rest, found := strings.CutPrefix(id, "undo-")
	if !found || len(rest) <= uuid+1 || rest[uuid] != '-' || !digits(rest[uuid+1:], "0123456789") {
		return nil
	}
	for i, part := range strings.Split(rest[:uuid], "-") {
		if lengths := []int{8, 4, 4, 4, 12}; i >= len(lengths) || len(part) != lengths[i] || !digits(part, "0123456789abcdef") {
			return nil
		}
	}
	return fmt.Errorf("identifier %s: undo-ID-ATTEMPT is what tasker names the tasks that undo others; choose another one", quote(id))
}

func digits(s, known string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(known, r) })
}

// plain says whether a name has 1 to most of a-z, 0-9, '.', '_' and '-', and
// begins with a letter or digit. (A regular expression would cost every start of
// the supervisor most of a millisecond.)
func plain(name string, most int) bool {
	if name == "" || len(name) > most || strings.ContainsRune("._-", rune(name[0])) {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
}

// quote shows a name in an error, cut so that a huge one stays readable.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return strconv.Quote(s)
}
