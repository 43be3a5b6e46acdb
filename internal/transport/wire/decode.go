package wire

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
)

var (
	// ErrUndecodable means that a message is not valid.
	ErrUndecodable = errors.New("undecodable")
	// ErrVersion means that the version of a message is above tasker.MaxWireVersion.
	ErrVersion = errors.New("unsupported version")
)

// DecodeReport decodes a report. Its errors wrap ErrUndecodable or ErrVersion.
func DecodeReport(encoded []byte) (tasker.Report, error) {
	var r tasker.Report
	if err := decode(encoded, &r, &r.Version); err != nil {
		return r, err
	}
	if r.Hello == nil && r.Heartbeat == nil && r.Goodbye == nil && r.Update == nil {
		return r, fmt.Errorf("%w: the report has none of hello, heartbeat, goodbye and update", ErrUndecodable)
	}
	return r, nil
}

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
