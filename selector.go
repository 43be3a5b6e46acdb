package tasker

import (
	"fmt"
	"strings"
)

// Selector chooses endpoints by their labels, like "role=loadbalancer,zone!=b":
// all of its requirements must be met. KEY=VALUE is met by that value, KEY!=VALUE
// by another one or none, KEY by any value, !KEY by none. (A part of what
// Kubernetes takes as label selectors.)
type Selector []requirement

type requirement struct {
	key, value   string
	not, present bool
}

// ParseSelector reads a selector.
func ParseSelector(s string) (Selector, error) {
	var list Selector
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		var r requirement
		if key, value, found := strings.Cut(part, "="); found {
			key, r.not = strings.CutSuffix(key, "!")
			r.key, r.value = strings.TrimSpace(key), strings.TrimSpace(strings.TrimPrefix(value, "="))
		} else {
			r.key, r.not = strings.CutPrefix(part, "!")
			r.present = true
		}
		if r.key == "" || strings.ContainsAny(r.key+r.value, "!= \t\"'") {
			return nil, fmt.Errorf("%s is no selector of labels: write KEY=VALUE, KEY!=VALUE, KEY or !KEY, with commas between", quote(s))
		}
		list = append(list, r)
	}
	return list, nil
}

// Matches says whether all requirements are met.
func (s Selector) Matches(labels map[string]string) bool {
	for _, r := range s {
		value, has := labels[r.key]
		if met := has && (r.present || value == r.value); met == r.not {
			return false
		}
	}
	return true
}
