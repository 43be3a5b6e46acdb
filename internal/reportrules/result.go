package reportrules

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/strictjson"
)

// MaxResultDepth is the deepest nesting of a result. A task contains its results, and
// common parsers refuse documents that are much deeper.
const MaxResultDepth = 64

// CheckResult returns an error if a handler's result does not meet the rules of requests:
// strict JSON in UTF-8, at most tasker.MaxResult bytes and MaxResultDepth levels. The error
// continues a sentence that begins with the result. An absent result is valid.
func CheckResult(result json.RawMessage) error {
	switch {
	case isNull(result):
		return nil
	case len(result) > tasker.MaxResult:
		return fmt.Errorf("has %d bytes as JSON; at most %d are allowed", len(result), tasker.MaxResult)
	}
	err := strictjson.CheckDepth(result, MaxResultDepth)
	var e *strictjson.Error
	if errors.As(err, &e) && e.Path != "" {
		return fmt.Errorf("has %s, which %s", e.Path, e.Message)
	}
	return err
}
