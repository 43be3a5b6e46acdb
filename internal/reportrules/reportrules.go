// Package reportrules decides what an agent may report: the size, the form and the range
// of every field of a report. The transports hold each report to Check when they decode
// it, the store holds times and output to the stored response, and the agent holds the
// results of handlers to the same rules before it reports them.
//
// A value that an honest agent can send, perhaps because of a wrong clock or an older
// version, is corrected. A report that no agent sends is refused.
package reportrules

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/MatthiasWiesner/tasker"
)

// The limits of one encoded report.
const (
	// MaxReport is the largest size, in bytes. The largest report of an agent has about
	// 900 KiB: output, result and texts, encoded. A hello has room for 30,000 assignments.
	MaxReport = 2 << 20
	// MaxValues is the largest number of values. It bounds the memory of decoding, because
	// an empty value has many times its encoded size. A result has up to 128 Ki values.
	MaxValues = 256 << 10
)

// The limits of texts and lists, in bytes and items.
const (
	maxText    = 16 << 10 // reasons, errors and messages; longer ones are cut
	maxName    = 64       // task ids and task types
	maxRandom  = 256      // instances and sessions
	maxChunks  = 64       // pieces of output in one report
	maxAttempt = math.MaxInt32
)

// ErrRefused means that no agent sends such a report.
var ErrRefused = errors.New("invalid report")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// CheckSize refuses an encoded report that must not be decoded. It reads the bytes once
// and allocates nothing.
func CheckSize(encoded []byte) error {
	if len(encoded) > MaxReport {
		return refuse("it has %d bytes; at most %d are allowed", len(encoded), MaxReport)
	}
	if countValues(encoded) > MaxValues {
		return refuse("it has more than %d values", MaxValues)
	}
	return nil
}

// countValues returns about how many values a JSON text has.
func countValues(encoded []byte) int {
	values, inText := 0, false
	for i := 0; i < len(encoded); i++ {
		switch c := encoded[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case !inText && (c == ',' || c == '[' || c == '{'):
			values++
		}
	}
	return values
}

// Check returns the report with every field within its limits, or an error that wraps
// ErrRefused. It is idempotent, and does not change what r points to.
func Check(r tasker.Report) (tasker.Report, error) {
	if err := tasker.ValidateEndpoint(r.Endpoint); err != nil {
		return r, refuse("%v", err)
	}
	if len(r.Instance) > maxRandom {
		return r, refuse("instance has %d bytes; at most %d are allowed", len(r.Instance), maxRandom)
	}
	kinds := 0
	for _, isSet := range []bool{r.Hello != nil, r.Heartbeat != nil, r.Goodbye != nil, r.Update != nil} {
		if isSet {
			kinds++
		}
	}
	if kinds != 1 {
		return r, refuse("it has %d of hello, heartbeat, goodbye and update; exactly one is allowed", kinds)
	}
	var err error
	switch {
	case r.Hello != nil:
		r.Hello, err = checkHello(*r.Hello)
	case r.Heartbeat != nil:
		h := *r.Heartbeat
		h.Presence, err = checkPresence(h.Presence)
		r.Heartbeat = &h
	case r.Update != nil:
		r.Update, err = checkUpdate(*r.Update)
	}
	return r, err
}

func checkHello(h tasker.Hello) (*tasker.Hello, error) {
	if len(h.Session) > maxRandom {
		return nil, refuse("session has %d bytes; at most %d are allowed", len(h.Session), maxRandom)
	}
	for _, ref := range h.Unfinished {
		if err := checkRef(ref.TaskID, ref.Attempt); err != nil {
			return nil, err
		}
	}
	var err error
	h.Presence, err = checkPresence(h.Presence)
	return &h, err
}

func checkRef(task string, attempt int) error {
	if task == "" || len(task) > maxName {
		return refuse("a task id has %d bytes, 1 to %d are allowed", len(task), maxName)
	}
	if attempt < 1 || attempt > maxAttempt {
		return refuse("attempt is %d", attempt)
	}
	return nil
}

func checkUpdate(u tasker.Update) (*tasker.Update, error) {
	if err := checkRef(u.TaskID, u.Attempt); err != nil {
		return nil, err
	}
	switch {
	case len(u.Type) > maxName:
		return nil, refuse("type has %d bytes; at most %d are allowed", len(u.Type), maxName)
	case u.Seq < 0:
		return nil, refuse("seq is %d", u.Seq)
	case !u.Status.Reportable():
		return nil, refuse("an agent does not report the status %.40q", u.Status)
	case u.ExitCode != nil && (*u.ExitCode < math.MinInt32 || *u.ExitCode > math.MaxInt32):
		return nil, refuse("exit_code is %d", *u.ExitCode)
	case len(u.Output) > maxChunks:
		return nil, refuse("it has %d pieces of output; at most %d are allowed", len(u.Output), maxChunks)
	}
	u.Reason, u.Error = limitText(u.Reason), limitText(u.Error)
	if u.Progress != nil {
		u.Progress = &tasker.Progress{Percent: min(max(u.Progress.Percent, 0), 100), Message: limitText(u.Progress.Message)}
	}
	u.OutputBytes = min(max(u.OutputBytes, 0), maxOutputBytes)
	if err := CheckResult(u.Result); err != nil {
		u.Result = nil
		u.Status, u.Error = withoutResult(u.Status, u.Error, err)
	}
	return &u, nil
}

// withoutResult returns the status and the error of an update whose result is not valid.
func withoutResult(status tasker.ResponseStatus, text string, err error) (tasker.ResponseStatus, string) {
	if !status.Ended() {
		return status, text
	}
	if status == tasker.Succeeded {
		status = tasker.Failed
	}
	return status, limitText(strings.TrimPrefix(text+"; ", "; ") + "the result is not kept: it " + err.Error())
}

// limitText returns valid UTF-8 of at most maxText bytes. An ellipsis ends a text that was
// cut.
func limitText(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText-len("…")], "") + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// isNull reports whether a result is absent or null.
func isNull(result json.RawMessage) bool { return len(result) == 0 || string(result) == "null" }
