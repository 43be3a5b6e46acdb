package wire_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

// TestDecode checks that a newer version is the reason for an error even if the message cannot
// be decoded.
func TestDecode(t *testing.T) {
	t.Parallel()
	const highest, newer = tasker.MaxWireVersion, tasker.MaxWireVersion + 1
	for name, tt := range map[string]struct {
		version int
		content string // of an order or a report
		want    error
	}{
		"the highest version":                   {highest, `"cancel":{},"goodbye":{}`, nil},
		"unknown fields":                        {highest, `"cancel":{},"goodbye":{},"later":1`, nil},
		"another type":                          {highest, `"cancel":7,"goodbye":7`, wire.ErrUndecodable},
		"no content":                            {highest, `"later":1`, wire.ErrUndecodable},
		"no JSON":                               {highest, `"cancel`, wire.ErrUndecodable},
		"a newer version":                       {newer, `"cancel":{},"goodbye":{}`, wire.ErrVersion},
		"a newer version with another type":     {newer, `"cancel":7,"goodbye":7`, wire.ErrVersion},
		"a newer version with unknown content":  {newer, `"later":1`, wire.ErrVersion},
		"a newer version that is not even JSON": {newer, `"cancel`, wire.ErrUndecodable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			encoded := fmt.Appendf(nil, `{"endpoint":"web-1",%s,"v":%d}`, tt.content, tt.version)
			r, err := wire.DecodeReport(encoded, "web-1")
			if !errors.Is(err, tt.want) || err == nil && (r.Version != tt.version || r.Goodbye == nil) {
				t.Errorf("DecodeReport = %+v, %v; want %v", r, err, tt.want)
			}
			o, err := wire.DecodeOrder(encoded)
			if !errors.Is(err, tt.want) || err == nil && (o.Version != tt.version || o.Cancel == nil) {
				t.Errorf("DecodeOrder = %+v, %v; want %v", o, err, tt.want)
			}
		})
	}
}
