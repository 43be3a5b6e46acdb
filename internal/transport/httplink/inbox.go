package httplink

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

const (
	// maxMemory is the largest total size of reports that wait to be stored, in bytes.
	maxMemory = 32 << 20
	// maxMemoryEach and maxPostsEach limit what one endpoint may have of it, so that it
	// does not keep the others from reporting. An agent has at most three POSTs under way.
	maxMemoryEach = 2 * maxBody
	maxPostsEach  = 8
	// heartbeatDelay is how long a batch of heartbeats waits for more reports. A
	// heartbeat has little to store, and a transaction costs many times as much.
	heartbeatDelay = 200 * time.Millisecond
)

// inbox passes posted reports to Receive.
type inbox struct {
	log        *slog.Logger
	operations *wire.Operations
	posts      chan post
	// memory limits the size of the reports that wait to be stored.
	memory *semaphore.Weighted

	mu       sync.Mutex
	admitted map[string]*admitted // by endpoint
}

// admitted are the POSTs of one endpoint that are being read or wait to be stored.
type admitted struct {
	posts int
	bytes int64
}

// post is a POST of reports, or a part of one, that waits to be stored.
type post struct {
	reports []wire.Received[tasker.Report]
	// bytes is the size of the reports.
	bytes int
	// stored has room for the result, which is sent once.
	stored chan error
}

// isUrgent reports whether the post contains anything but heartbeats.
func (p post) isUrgent() bool {
	return slices.ContainsFunc(p.reports, func(r wire.Received[tasker.Report]) bool { return r.Message.Heartbeat == nil })
}

func newInbox(log *slog.Logger, operations *wire.Operations) *inbox {
	return &inbox{log: log, operations: operations, posts: make(chan post), memory: semaphore.NewWeighted(maxMemory), admitted: map[string]*admitted{}}
}

// admit waits until there is memory for a POST of an endpoint. The returned function
// releases the memory.
func (in *inbox) admit(ctx context.Context, endpoint string, size int64) (release func(), refusal *problem) {
	if !in.count(endpoint, 1, size) {
		return nil, newProblem(http.StatusTooManyRequests, "the endpoint has too many requests under way; send the reports again")
	}
	if in.memory.Acquire(ctx, size) != nil {
		in.count(endpoint, -1, -size)
		return nil, newProblem(http.StatusServiceUnavailable, "too many reports wait to be stored; send them again")
	}
	return func() {
		in.memory.Release(size)
		in.count(endpoint, -1, -size)
	}, nil
}

// count adds POSTs of an endpoint. It adds nothing and reports false if they would exceed
// the limits of one endpoint.
func (in *inbox) count(endpoint string, posts int, bytes int64) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	a := in.admitted[endpoint]
	if a == nil {
		a = &admitted{}
	}
	if posts > 0 && (a.posts+posts > maxPostsEach || a.bytes+bytes > maxMemoryEach) {
		return false
	}
	a.posts, a.bytes = a.posts+posts, a.bytes+bytes
	if in.admitted[endpoint] = a; a.posts == 0 {
		delete(in.admitted, endpoint)
	}
	return true
}

// store passes reports to Receive and waits until they are stored, or ctx is done.
func (in *inbox) store(ctx context.Context, reports []wire.Received[tasker.Report]) error {
	p := post{reports: reports, stored: make(chan error, 1)}
	for _, r := range reports {
		p.bytes += len(r.Encoded)
	}
	select {
	case in.posts <- p:
	case <-in.operations.Done():
		return transport.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-p.stored: // receive sends a result even if it ends
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// receive passes batches of posted reports to handle until ctx or the Hub ends.
func (in *inbox) receive(ctx context.Context, handle wire.Handler[tasker.Report]) error {
	ctx, end, err := in.operations.Begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	for {
		select {
		case <-ctx.Done():
			return wire.EndError(ctx)
		case first := <-in.posts:
			posts := in.collect(ctx, first)
			var batch []wire.Received[tasker.Report]
			for _, p := range posts {
				batch = append(batch, p.reports...)
			}
			err := wire.Deliver(ctx, ctx, in.log, batch, wire.DecodeReportAgain, handle)
			if err != nil {
				err = wire.EndError(ctx)
			}
			for _, p := range posts {
				p.stored <- err
			}
			if err != nil {
				return err
			}
		}
	}
}

// collect returns the first post and those that already wait and fit into the batch. If
// all are heartbeats, it waits for more posts, but not longer than heartbeatDelay.
func (in *inbox) collect(ctx context.Context, first post) []post {
	posts, urgent := []post{first}, first.isUrgent()
	timeout := time.NewTimer(heartbeatDelay)
	defer timeout.Stop()
	bytes := first.bytes
	for n := len(first.reports); n <= maxBatch-maxPost && bytes <= maxBatchBytes; {
		var p post
		select {
		case p = <-in.posts:
		default:
			if urgent {
				return posts
			}
			select {
			case p = <-in.posts:
			case <-timeout.C:
				return posts
			case <-ctx.Done():
				return posts
			}
		}
		posts, n, urgent = append(posts, p), n+len(p.reports), urgent || p.isUrgent()
		bytes += p.bytes
	}
	return posts
}
