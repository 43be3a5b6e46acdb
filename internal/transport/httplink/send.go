package httplink

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

var errBehind = fmt.Errorf("%w: the agent is slow to read what was sent before", transport.ErrUnavailable)

// Send implements transport.Hub: custody has passed when an order is written to
// the endpoint's open stream. An order to everyone is on its way to each stream
// that stands; those that break have their agents come back and say hello.
func (h *Hub) Send(ctx context.Context, orders ...tasker.Order) error {
	if h.ctx.Err() != nil {
		return transport.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	failed, waiting := map[int]error{}, map[int]*stream{}
	written := make(chan result, len(orders))
	for i, o := range orders {
		s, err := h.pass(o, line{index: i, written: written})
		switch {
		case err != nil:
			failed[i] = err
		case s != nil:
			waiting[i] = s
		}
	}
	late := time.NewTimer(h.opts.Patience)
	defer late.Stop()
	for len(waiting) > 0 {
		select {
		case r := <-written:
			delete(waiting, r.index)
			if r.err != nil {
				failed[r.index] = r.err
			}
			continue
		case <-late.C:
		case <-ctx.Done():
		}
		for i, s := range waiting {
			s.fallBehind()
			failed[i] = errBehind
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		break
	}
	if len(failed) > 0 {
		return &transport.SendError{Failed: failed, Of: len(orders)}
	}
	return nil
}

// pass gives an order to the stream or streams it is for. It returns the stream
// that will say when it is written, if one will.
func (h *Hub) pass(o tasker.Order, l line) (*stream, error) {
	configured := slices.ContainsFunc(h.opts.Types, func(t tasker.TaskType) bool { return t.Name == o.Type })
	toAll := o.Endpoint == tasker.AllEndpoints
	if !configured && (o.Assignment != nil || toAll) {
		return nil, fmt.Errorf("%w: task type %q is not configured", transport.ErrUnroutable, o.Type)
	}
	if !o.Expires.IsZero() && o.Expires.Before(h.opts.Clock()) {
		return nil, nil // of no more use to anybody
	}
	var err error
	if l.body, err = json.Marshal(o); err != nil {
		return nil, fmt.Errorf("%w: encode the order: %w", transport.ErrRefused, err)
	}
	l.body = append(l.body, '\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	if toAll {
		l.written = nil
		for _, s := range h.streams {
			if !s.serves[o.Type] {
				continue
			}
			if err := s.enqueue(l); err != nil {
				s.end(err)
			}
		}
		return nil, nil
	}
	s := h.streams[o.Endpoint]
	switch {
	case s == nil || s.serves == nil: // not there, or not introduced yet
		return nil, transport.ErrOffline
	case o.Assignment != nil && !s.serves[o.Type]:
		return nil, fmt.Errorf("%w: %s does not serve task type %q", transport.ErrUnroutable, o.Endpoint, o.Type)
	}
	if err := s.enqueue(l); err != nil {
		return nil, err
	}
	if o.Welcome != nil {
		s.beat = max(s.beat, o.Welcome.Heartbeat.D())
	}
	return s, nil
}
