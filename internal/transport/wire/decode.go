package wire

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/reportrules"
)

var (
	// ErrUndecodable means that a message is not valid.
	ErrUndecodable = errors.New("undecodable")
	// ErrVersion means that the version of a message is above tasker.MaxWireVersion.
	ErrVersion = errors.New("unsupported version")
	// ErrSender means that the sender of a report may not report for its endpoint.
	ErrSender = errors.New("wrong sender")
)

// DecodeReport decodes a report of an authenticated endpoint and holds it to the rules of
// reports. Its errors wrap ErrUndecodable, ErrVersion, ErrSender or reportrules.ErrRefused.
func DecodeReport(encoded []byte, endpoint string) (tasker.Report, error) {
	var r tasker.Report
	if err := reportrules.CheckSize(encoded); err != nil {
		return r, err
	}
	if err := decode(encoded, &r, &r.Version); err != nil {
		return r, err
	}
	if r.Hello == nil && r.Heartbeat == nil && r.Goodbye == nil && r.Update == nil {
		return r, fmt.Errorf("%w: the report has none of hello, heartbeat, goodbye and update", ErrUndecodable)
	}
	if r.Endpoint != endpoint {
		return r, fmt.Errorf("%w: a report of endpoint %.200q was sent by %.200q", ErrSender, r.Endpoint, endpoint)
	}
	return reportrules.Check(r)
}

// DecodeReportAgain decodes a report that DecodeReport has accepted.
func DecodeReportAgain(encoded []byte) (tasker.Report, error) {
	var r tasker.Report
	if err := decode(encoded, &r, &r.Version); err != nil {
		return r, err
	}
	return reportrules.Check(r)
}

// RefusalReason returns the value of the label "reason" for the error of a refused report.
func RefusalReason(err error) string {
	switch {
	case errors.Is(err, ErrVersion):
		return "version"
	case errors.Is(err, ErrSender):
		return "speaker" // the wrong sender; another value would break alerts and dashboards
	case errors.Is(err, reportrules.ErrRefused):
		return "rules"
	}
	return "undecodable"
}

// RefusalReasons returns all values of RefusalReason.
func RefusalReasons() []string { return []string{"undecodable", "version", "speaker", "rules"} }

// DecodeOrder decodes an order. Its errors wrap ErrUndecodable or ErrVersion.
func DecodeOrder(encoded []byte) (tasker.Order, error) {
	var o tasker.Order
	if err := decode(encoded, &o, &o.Version); err != nil {
		return o, err
	}
	if o.Assignment == nil && o.Cancel == nil && o.Welcome == nil {
		return o, fmt.Errorf("%w: the order has none of assignment, cancel and welcome", ErrUndecodable)
	}
	return o, nil
}

// decode decodes a message and checks its version, which is a field of the message. It
// checks the version also if the message cannot be decoded, because that can be the reason.
func decode(encoded []byte, message any, version *int) error {
	err := json.Unmarshal(encoded, message)
	if err != nil {
		var header struct {
			Version int `json:"v"`
		}
		_ = json.Unmarshal(encoded, &header) // err is reported below
		*version = header.Version
	}
	switch {
	case *version > tasker.MaxWireVersion:
		return fmt.Errorf("%w %d, the highest supported one is %d", ErrVersion, *version, tasker.MaxWireVersion)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	return nil
}
