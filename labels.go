package tasker

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLabels is the maximum number of labels of an endpoint.
const MaxLabels = 256

// ValidateLabels returns an error unless the labels have valid names and values, and
// are at most MaxLabels.
func ValidateLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return fmt.Errorf("there are %d labels; at most %d are allowed", len(labels), MaxLabels)
	}
	for name, value := range labels {
		if err := ValidateLabel(name, value); err != nil {
			return fmt.Errorf("label %s: %w", quote(name), err)
		}
	}
	return nil
}

// ValidateLabel returns an error if the name or the value of a label is not valid.
func ValidateLabel(name, value string) error {
	switch {
	case !isLabelName(name):
		return errors.New("a label's name has 1 to 63 letters, digits, '.', '_', '/' and '-', and begins with a letter or '_'")
	case len(value) > 255 || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		return errors.New("a label's value has at most 255 bytes of UTF-8 and no control characters")
	}
	return nil
}

func isLabelName(name string) bool {
	if name == "" || len(name) > 63 {
		return false
	}
	for i, r := range []byte(name) {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_'
		if !letter && (i == 0 || (r < '0' || r > '9') && !strings.ContainsRune("./-", rune(r))) {
			return false
		}
	}
	return true
}
