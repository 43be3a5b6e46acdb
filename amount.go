package tasker

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Amount is a number of endpoints or a percentage of a task's endpoints. Its JSON form
// is 3 or "25%".
type Amount struct {
	N       int
	Percent bool
}

// Of returns the number of endpoints out of total; a percentage is rounded down.
func (a Amount) Of(total int) int {
	if a.Percent {
		return total * a.N / 100
	}
	return a.N
}

// String returns 3 or 25%.
func (a Amount) String() string {
	if a.Percent {
		return strconv.Itoa(a.N) + "%"
	}
	return strconv.Itoa(a.N)
}

// ParseAmount parses "3" or "25%".
func ParseAmount(s string) (Amount, error) {
	digits, percent := strings.CutSuffix(s, "%")
	n, err := strconv.ParseUint(digits, 10, strconv.IntSize-1) // ParseUint rejects a sign
	if err != nil || percent && n > 100 {
		return Amount{}, fmt.Errorf("%s is not an amount: write a number of endpoints, like 3, or a percentage of them, from \"0%%\" to \"100%%\"", quote(s))
	}
	return Amount{int(n), percent}, nil
}

// MarshalJSON returns 3 or "25%".
func (a Amount) MarshalJSON() ([]byte, error) {
	if a.Percent {
		return json.Marshal(a.String())
	}
	return json.Marshal(a.N)
}

// UnmarshalJSON parses 3, "3" or "25%".
func (a *Amount) UnmarshalJSON(b []byte) error {
	s := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return fmt.Errorf("read an amount: %w", err)
		}
	}
	v, err := ParseAmount(s)
	if err == nil {
		*a = v
	}
	return err
}

// Amounts are one or more amounts. In JSON a single amount needs no list.
type Amounts []Amount

// MarshalJSON returns a single amount without a list.
func (a Amounts) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]Amount(a))
}

// UnmarshalJSON parses an amount or a list; null changes nothing.
func (a *Amounts) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	if len(b) > 0 && b[0] == '[' {
		var list []Amount
		if err := json.Unmarshal(b, &list); err != nil {
			return err
		}
		*a = list
		return nil
	}
	var one Amount
	if err := json.Unmarshal(b, &one); err != nil {
		return err
	}
	*a = Amounts{one}
	return nil
}
