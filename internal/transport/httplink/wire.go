package httplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// The paths of the two calls, and the headers in which an agent names itself
// and the hub the interval of its signs of life, in seconds.
const (
	ordersPath  = "/agent/v1/orders"
	reportsPath = "/agent/v1/reports"

	endpointHeader  = "Tasker-Endpoint"
	instanceHeader  = "Tasker-Instance"
	keepaliveHeader = "Tasker-Keepalive"

	streamType = "application/x-ndjson"
)

const (
	// maxBody bounds one POST of reports, in bytes: several times the largest
	// report.
	maxBody = 8 << 20
	// fullBody is the size at which a link begins the next POST. Reverse proxies
	// commonly refuse more.
	fullBody = 1 << 20
	// maxBatch is the most messages that are handed over at once, maxPost the
	// most of one POST among them.
	maxBatch = 200
	maxPost  = maxBatch / 2
)

// errVersion: the message is of a version that is not known here.
var errVersion = errors.New("the message is of a newer version")

// hold spreads the tries to hand over a batch that cannot be stored now, and
// reconnect those to open a stream.
func hold() backoff.Policy {
	return backoff.Policy{First: 100 * time.Millisecond, Cap: 5 * time.Second}
}

func reconnect() backoff.Policy {
	return backoff.Policy{First: 500 * time.Millisecond, Cap: 10 * time.Second}
}

// admission spreads the tries of a link that is shut out: what is wrong takes a
// person.
func admission() backoff.Policy {
	return backoff.Policy{First: 4 * time.Second, Cap: time.Minute}
}

// hand hands messages over until they are taken, decoded anew for each try
// because they belong to handle. Its error says that ctx is done.
func hand[M any](ctx context.Context, log *slog.Logger, batch func() []M, handle func(context.Context, []M) error) error {
	for tries := 0; ; tries++ {
		err := handle(ctx, batch())
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			log.Warn("received messages cannot be stored now; holding them", "tries", tries+1, "error", err)
		}
		if err := hold().Sleep(ctx, tries); err != nil {
			return err
		}
	}
}

// ended is what a Receive or Send returns whose context is done, by its caller or
// by Close.
func ended(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), transport.ErrClosed) {
		return transport.ErrClosed
	}
	return ctx.Err()
}

// again makes what hand wants of decoded messages and their bytes.
func again[M any](decoded []M, raw []json.RawMessage, decode func([]byte) (M, error)) func() []M {
	return func() []M {
		batch := decoded
		decoded = nil
		if batch == nil {
			for _, r := range raw {
				m, _ := decode(r) // it could be decoded before
				batch = append(batch, m)
			}
		}
		return batch
	}
}

func decodeReport(raw []byte) (tasker.Report, error) {
	var r tasker.Report
	err := json.Unmarshal(raw, &r)
	switch {
	case newer(raw, r.Version, err):
		return r, errVersion
	case err != nil:
		return r, fmt.Errorf("is no report: %w", err)
	case r.Hello == nil && r.Heartbeat == nil && r.Goodbye == nil && r.Update == nil:
		return r, errors.New("has none of hello, heartbeat, goodbye and update")
	}
	return r, nil
}

func decodeOrder(raw []byte) (tasker.Order, error) {
	var o tasker.Order
	err := json.Unmarshal(raw, &o)
	switch {
	case newer(raw, o.Version, err):
		return o, errVersion
	case err != nil:
		return o, fmt.Errorf("is no order: %w", err)
	case o.Assignment == nil && o.Cancel == nil && o.Welcome == nil:
		return o, errors.New("has none of assignment, cancel and welcome")
	}
	return o, nil
}

// newer says whether a message is of a version that is not known here. One that
// cannot be decoded may be just that.
func newer(raw []byte, version int, err error) bool {
	if err != nil {
		var m struct {
			Version int `json:"v"`
		}
		if json.Unmarshal(raw, &m) != nil {
			return false
		}
		version = m.Version
	}
	return version > tasker.MaxWireVersion
}

// problem is an RFC 9457 problem: the answer to a request that fails.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Report is the index of the report that is at fault, when it is one.
	Report *int `json:"report,omitempty"`
}

// Error returns the detail.
func (p *problem) Error() string { return p.Detail }

func failure(status int, format string, args ...any) *problem {
	return &problem{Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}
}

// of says which report is at fault.
func (p *problem) of(report int) *problem {
	p.Report = &report
	return p
}

func (p *problem) answer(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the connection may be gone
}
