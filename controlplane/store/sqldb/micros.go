package sqldb

import (
	"database/sql/driver"
	"fmt"
	"time"
)

// Micros is a moment as it is stored: microseconds since 1970 UTC; zero is NULL.
type Micros int64

// MicrosOf returns t in microseconds.
func MicrosOf(t time.Time) Micros { return Micros(t.UnixMicro()) }

// MicrosOrNull returns t in microseconds, or zero for nil.
func MicrosOrNull(t *time.Time) Micros {
	if t == nil {
		return 0
	}
	return MicrosOf(*t)
}

// The first and the last moment that JSON can express.
const (
	firstMicros Micros = -62_135_596_800_000_000 // 0001-01-01
	lastMicros  Micros = 253_402_300_799_999_999 // 9999-12-31
)

// Time returns the moment in UTC. A moment outside the years 1 to 9999, which is the
// result of an error, becomes the nearest moment in them: one such row must not keep a
// list from being encoded.
func (m Micros) Time() time.Time {
	return time.UnixMicro(int64(min(max(m, firstMicros), lastMicros))).UTC()
}

// TimeOrNil returns the moment in UTC, or nil for zero.
func (m Micros) TimeOrNil() *time.Time {
	if m == 0 {
		return nil
	}
	t := m.Time()
	return &t
}

// Add returns the moment d later.
func (m Micros) Add(d time.Duration) Micros { return m + Micros(d.Microseconds()) }

// Sub returns the time from o to m.
func (m Micros) Sub(o Micros) time.Duration { return time.Duration(m-o) * time.Microsecond }

// RFC3339 formats the moment for messages.
func (m Micros) RFC3339() string { return m.Time().Format(time.RFC3339) }

// Scan implements sql.Scanner.
func (m *Micros) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*m = 0
	case int64:
		*m = Micros(v)
	case []byte:
		if _, err := fmt.Sscan(string(v), (*int64)(m)); err != nil {
			return fmt.Errorf("read a time: %w", err)
		}
	default:
		return fmt.Errorf("read a time: it is a %T", v)
	}
	return nil
}

// Value implements driver.Valuer.
func (m Micros) Value() (driver.Value, error) {
	if m == 0 {
		return nil, nil
	}
	return int64(m), nil
}
