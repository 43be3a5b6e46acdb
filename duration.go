package tasker

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Duration is a time.Duration with the text form "1m30s" in JSON and YAML. A number of
// seconds is accepted, too.
type Duration time.Duration

// D returns d as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String formats d as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText returns d as text.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText parses "1m30s", or "90" and "1.5" as seconds.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// UnmarshalJSON parses a string as UnmarshalText does, or a number of seconds.
func (d *Duration) UnmarshalJSON(b []byte) error {
	s := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return fmt.Errorf("read a duration: %w", err)
		}
	}
	return d.UnmarshalText([]byte(s))
}

// ParseDuration parses "1m30s", or a plain number as seconds. It rejects negative
// durations.
func ParseDuration(s string) (time.Duration, error) {
	v, err := time.ParseDuration(s)
	if err != nil {
		if v, err = time.ParseDuration(s + "s"); err != nil {
			return 0, fmt.Errorf("%s is not a duration: write it like 30s, 10m or 1h30m, or as a number of seconds", strconv.Quote(s))
		}
	}
	if v < 0 {
		return 0, fmt.Errorf("%s is negative", strconv.Quote(s))
	}
	return v, nil
}
