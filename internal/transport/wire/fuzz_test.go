package wire_test

import (
	"encoding/json"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

// A report that is accepted is of its endpoint, and stays acceptable when it is decoded again.
func FuzzDecodeReport(f *testing.F) {
	for _, seed := range []string{
		`{"v":1,"endpoint":"web-1","hello":{"session":"s","instance":"i","version":"1","labels":{"a":"b"},"handlers":["ping"],"unfinished":[{"task_id":"t","attempt":1}]}}`,
		`{"v":1,"endpoint":"web-1","heartbeat":{"load":0.5,"heartbeat":"10s"}}`,
		`{"v":1,"endpoint":"web-1","goodbye":{}}`,
		`{"v":1,"endpoint":"web-1","update":{"task_id":"01a223db-86a7-7a69-9895-dffc925a54f2","type":"ping","attempt":1,"seq":4294967297,"status":"failed","exit_code":1,"result":{"a":[1]},"output":[{"offset":0,"data":"eA=="}],"progress":{"percent":50}}}`,
		`{"v":99,"endpoint":"web-2","hello":7}`,
		`{"update":{"result":[[[[]]]],"received_at":"9999-12-31T23:59:59Z"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		r, err := wire.DecodeReport(encoded, "web-1")
		if err != nil {
			return
		}
		if r.Endpoint != "web-1" {
			t.Errorf("a report of %q was accepted from web-1", r.Endpoint)
		}
		if _, err := wire.DecodeReportAgain(encoded); err != nil {
			t.Errorf("decoded once, but not again: %v", err)
		}
	})
}

// An order that is accepted can be encoded, and has the same kind after that.
func FuzzDecodeOrder(f *testing.F) {
	for _, seed := range []string{
		`{"v":1,"endpoint":"web-1","assignment":{"task_id":"t","identifier":"i","attempt":1,"handler":"ping","payload":{"a":1},"deadline":"2026-03-01T12:00:00Z","timeout":"1m"}}`,
		`{"v":1,"endpoint":"*","cancel":{"task_id":"t","attempt":1}}`,
		`{"v":1,"endpoint":"web-1","welcome":{"session":"s","now":"2026-03-01T12:00:00Z","heartbeat":"10s"}}`,
		`{"v":99}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		o, err := wire.DecodeOrder(encoded)
		if err != nil {
			return
		}
		again, err := json.Marshal(o)
		if err != nil {
			t.Fatalf("an accepted order cannot be encoded: %v", err)
		}
		got, err := wire.DecodeOrder(again)
		if err != nil || (got.Assignment == nil) != (o.Assignment == nil) || (got.Cancel == nil) != (o.Cancel == nil) || (got.Welcome == nil) != (o.Welcome == nil) {
			t.Errorf("decoded again: %+v, %v", got, err)
		}
	})
}
