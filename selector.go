package tasker

import (
	"fmt"
	"strings"
)

// Selector selects endpoints by their labels, like "role=loadbalancer,zone!=b". An
// endpoint must meet all requirements: KEY=VALUE requires that value, KEY!=VALUE any
// other value or no such label, KEY any value, !KEY no such label. A VALUE is never empty.
// The syntax is a subset of the label selectors of Kubernetes.
type Selector []requirement

type requirement struct {
	key, value string
	negated    bool
	anyValue   bool
}

// ParseSelector parses a selector. It refuses an empty value: in zone!=$ZONE without the
// variable, it would select every zone.
func ParseSelector(s string) (Selector, error) {
	var list Selector
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		var r requirement
		if key, value, found := strings.Cut(part, "="); found {
			key, r.negated = strings.CutSuffix(key, "!")
			r.key, r.value = strings.TrimSpace(key), strings.TrimSpace(strings.TrimPrefix(value, "="))
		} else {
			r.key, r.negated = strings.CutPrefix(part, "!")
			r.anyValue = true
		}
		if r.key == "" || strings.ContainsAny(r.key+r.value, "!= \t\"'") {
			return nil, fmt.Errorf("%s is not a label selector: write KEY=VALUE, KEY!=VALUE, KEY or !KEY, separated by commas", quote(s))
		}
		if r.value == "" && !r.anyValue {
			return nil, fmt.Errorf("%s has no value for %s: write %[2]s=VALUE, or %[2]s for any value, or !%[2]s for no such label", quote(s), r.key)
		}
		list = append(list, r)
	}
	return list, nil
}

// Matches reports whether the labels meet all requirements.
func (s Selector) Matches(labels map[string]string) bool {
	for _, r := range s {
		value, has := labels[r.key]
		if met := has && (r.anyValue || value == r.value); met == r.negated {
			return false
		}
	}
	return true
}
