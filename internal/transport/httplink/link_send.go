package httplink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

// encodedReport is a report to post, with its index in the Send.
type encodedReport struct {
	index int
	body  []byte
}

// Send implements transport.Link. Reports are accepted after the control plane has stored
// them. A missing or invalid credential is ErrUnavailable, not ErrRefused: the reports are
// accepted after the credential is corrected.
func (l *Link) Send(ctx context.Context, reports ...tasker.Report) error {
	ctx, end, err := l.operations.Begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	failed := map[int]error{}
	var batch []encodedReport
	size := 0
	flush := func() {
		l.postAll(ctx, batch, failed)
		batch, size = batch[:0], 0
	}
	for i, r := range reports {
		body, err := json.Marshal(r)
		if err == nil && r.Endpoint != l.opts.Endpoint {
			err = fmt.Errorf("endpoint %q cannot send a report of %q", l.opts.Endpoint, r.Endpoint)
		}
		if err == nil && len(body) > maxBody-2 {
			err = fmt.Errorf("the report has %d bytes; at most %d are allowed", len(body), maxBody-2)
		}
		if err != nil {
			failed[i] = fmt.Errorf("%w: %w", transport.ErrRefused, err)
			continue
		}
		if len(batch) == maxPost || size+len(body) > targetBody {
			flush()
		}
		batch, size = append(batch, encodedReport{i, body}), size+len(body)+1
	}
	flush()
	switch {
	case len(failed) == 0:
		return nil
	case ctx.Err() != nil:
		return wire.EndError(ctx)
	}
	return &transport.SendError{Failed: failed, Of: len(reports)}
}

// postAll posts reports and adds those that were not accepted to failed. If the control
// plane rejects one report, the others are posted again. If the response does not name the
// rejected report, postAll finds it by bisection. It also halves a POST that is too large for
// a reverse proxy.
func (l *Link) postAll(ctx context.Context, reports []encodedReport, failed map[int]error) {
	for len(reports) > 0 {
		err := l.post(ctx, reports)
		if err == nil {
			return
		}
		var p *problem
		at := -1
		if errors.As(err, &p) && p.Report != nil && *p.Report >= 0 && *p.Report < len(reports) {
			at = *p.Report
		}
		switch {
		case errors.Is(err, transport.ErrRefused) && at >= 0:
			failed[reports[at].index] = err
			reports = slices.Delete(slices.Clone(reports), at, at+1)
		case len(reports) > 1 && (errors.Is(err, transport.ErrRefused) || p != nil && p.Status == http.StatusRequestEntityTooLarge):
			half := len(reports) / 2
			l.postAll(ctx, reports[:half], failed)
			reports = reports[half:]
		default:
			for _, p := range reports {
				failed[p.index] = err
			}
			return
		}
	}
}

// post sends one POST of reports. Without reports it is the response to a probe.
func (l *Link) post(ctx context.Context, reports []encodedReport) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	var body bytes.Buffer
	body.WriteByte('[')
	for i, p := range reports {
		if i > 0 {
			body.WriteByte(',')
		}
		body.Write(p.body)
	}
	body.WriteByte(']')
	resp, err := l.do(ctx, http.MethodPost, reportsPath, &body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 == 2 {
		return nil
	}
	err = responseError(resp)
	var p *problem
	if errors.As(err, &p) && p.rejectsReports() {
		return fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	return fmt.Errorf("%w: %w", transport.ErrUnavailable, err)
}
