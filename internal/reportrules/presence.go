package reportrules

import (
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/MatthiasWiesner/tasker"
)

// The limits of a presence, in bytes and items. The configuration of an agent allows the
// same names and values of labels.
const (
	maxPresence     = 64 << 10 // all texts together
	maxLabels       = 256
	maxLabelName    = 63
	maxLabelValue   = 255
	maxHandlers     = 256
	maxScripts      = 2000
	maxHandlerName  = 128
	maxVersion      = 128
	maxLoad         = 1e6
	maxHeartbeat    = tasker.Duration(time.Hour)
	maxMetricsBytes = 255 + len("[]:65535")
)

// checkPresence limits numbers, removes an invalid metrics address, and refuses texts and
// lists that are too long: to cut them would change which tasks the endpoint gets.
func checkPresence(p tasker.Presence) (tasker.Presence, error) {
	if len(p.Version) > maxVersion {
		return p, refuse("version has %d bytes; at most %d are allowed", len(p.Version), maxVersion)
	}
	handlers, err := checkNames("handlers", p.Handlers, maxHandlers)
	if err != nil {
		return p, err
	}
	scripts, err := checkNames("scripts", p.Scripts, maxScripts)
	if err != nil {
		return p, err
	}
	labels, err := checkLabels(p.Labels)
	if err != nil {
		return p, err
	}
	if size := len(p.Version) + handlers + scripts + labels; size > maxPresence {
		return p, refuse("the presence has %d bytes of texts; at most %d are allowed", size, maxPresence)
	}
	if !IsMetricsAddress(p.Metrics) {
		p.Metrics = ""
	}
	p.Key = validKeyID(p.Key)
	p.Running, p.Waiting = limitCount(p.Running), limitCount(p.Waiting)
	p.Load = min(max(p.Load, 0), maxLoad)
	p.Heartbeat = min(max(p.Heartbeat, 0), maxHeartbeat)
	return p, nil
}

// checkNames returns the total size of a list of handlers or scripts.
func checkNames(list string, names []string, most int) (size int, err error) {
	if len(names) > most {
		return 0, refuse("%d %s; at most %d are allowed", len(names), list, most)
	}
	for _, name := range names {
		if size += len(name); len(name) > maxHandlerName {
			return 0, refuse("one of the %s has %d bytes; at most %d are allowed", list, len(name), maxHandlerName)
		}
	}
	return size, nil
}

// checkLabels returns the total size of labels.
func checkLabels(labels map[string]string) (size int, err error) {
	if len(labels) > maxLabels {
		return 0, refuse("%d labels; at most %d are allowed", len(labels), maxLabels)
	}
	for name, value := range labels {
		size += len(name) + len(value)
		if name == "" || len(name) > maxLabelName || len(value) > maxLabelValue || strings.ContainsFunc(name+value, unicode.IsControl) {
			return 0, refuse("label %.80q: a name has 1 to %d bytes and a value at most %d, without control characters", name, maxLabelName, maxLabelValue)
		}
	}
	return size, nil
}

// validKeyID returns the id of a signing key, or an empty text for anything else.
func validKeyID(id string) string {
	if len(id) != len(tasker.KeyID(nil)) || strings.Trim(id, "0123456789abcdef") != "" {
		return ""
	}
	return id
}

func limitCount(n int) int { return min(max(n, 0), math.MaxInt32) }

// IsMetricsAddress reports whether an address is short enough to be stored, and one that
// tasker.IsMetricsAddress accepts.
func IsMetricsAddress(address string) bool {
	return len(address) <= maxMetricsBytes && tasker.IsMetricsAddress(address)
}
