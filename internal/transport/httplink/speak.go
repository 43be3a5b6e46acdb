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
)

// parcel is a report that is to be posted.
type parcel struct {
	index int
	body  []byte
}

// Send implements transport.Link: custody has passed when the control plane has
// stored the reports. What does not pass for want of a token or of the right to
// speak is ErrUnavailable, not ErrRefused: it is not the reports' fault, and they
// pass once that is put right.
func (l *Link) Send(ctx context.Context, reports ...tasker.Report) error {
	ctx, done, ok := l.begin(ctx)
	if !ok {
		return transport.ErrClosed
	}
	defer done()
	failed := map[int]error{}
	var parcels []parcel
	size := 0
	flush := func() {
		l.post(ctx, parcels, failed)
		parcels, size = parcels[:0], 0
	}
	for i, r := range reports {
		body, err := json.Marshal(r)
		if err == nil && r.Endpoint != l.opts.Endpoint {
			err = fmt.Errorf("endpoint %q does not speak for %q", l.opts.Endpoint, r.Endpoint)
		}
		if err == nil && len(body) > maxBody-2 {
			err = fmt.Errorf("the report has %d bytes; %d are allowed", len(body), maxBody-2)
		}
		if err != nil {
			failed[i] = fmt.Errorf("%w: %w", transport.ErrRefused, err)
			continue
		}
		if len(parcels) == maxPost || size+len(body) > fullBody {
			flush()
		}
		parcels, size = append(parcels, parcel{i, body}), size+len(body)+1
	}
	flush()
	switch {
	case len(failed) == 0:
		return nil
	case ctx.Err() != nil:
		return ended(ctx)
	}
	return &transport.SendError{Failed: failed, Of: len(reports)}
}

// post posts reports and notes those that did not pass. One that is at fault is
// left out, and the others are posted again; if it is not said which one it is,
// it is looked for by halves.
func (l *Link) post(ctx context.Context, parcels []parcel, failed map[int]error) {
	for len(parcels) > 0 {
		err := l.postOnce(ctx, parcels)
		if err == nil {
			return
		}
		var p *problem
		at := -1
		if errors.As(err, &p) && p.Report != nil && *p.Report >= 0 && *p.Report < len(parcels) {
			at = *p.Report
		}
		switch {
		case errors.Is(err, transport.ErrRefused) && at >= 0:
			failed[parcels[at].index] = err
			parcels = slices.Delete(slices.Clone(parcels), at, at+1)
		case errors.Is(err, transport.ErrRefused) && len(parcels) > 1:
			half := len(parcels) / 2
			l.post(ctx, parcels[:half], failed)
			parcels = parcels[half:]
		default:
			for _, p := range parcels {
				failed[p.index] = err
			}
			return
		}
	}
}

func (l *Link) postOnce(ctx context.Context, parcels []parcel) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	var body bytes.Buffer
	for i, p := range parcels {
		body.WriteByte("[,"[min(i, 1)])
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
	err = explain(resp)
	var p *problem
	if errors.As(err, &p) && p.refuses() {
		return fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	return fmt.Errorf("%w: %w", transport.ErrUnavailable, err)
}

// refuses says whether a POST is answered so for what is in it.
func (p *problem) refuses() bool {
	switch p.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	case http.StatusForbidden:
		return p.Report != nil
	}
	return false
}
