package config

import (
	"fmt"
	"regexp"
	"strings"
)

// variable matches the name of an environment variable.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces each ${NAME} by the value of the variable, and each $${ by ${. It does
// not expand the values.
func expand(s string, env func(string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "${")
		if !found {
			b.WriteString(s)
			return b.String(), nil
		}
		if strings.HasSuffix(before, "$") {
			b.WriteString(strings.TrimSuffix(before, "$") + "${")
			s = after
			continue
		}
		name, rest, closed := strings.Cut(after, "}")
		switch {
		case !closed:
			return "", fmt.Errorf("%q has no closing brace; write $${ for a literal ${", "${"+after)
		case !variable.MatchString(name):
			return "", fmt.Errorf("%q is not the name of an environment variable; write $${ for a literal ${", name)
		}
		value, ok := env(name)
		if !ok {
			return "", fmt.Errorf("the environment variable %s is not set; set it, or write the value here", name)
		}
		b.WriteString(before + value)
		s = rest
	}
}
