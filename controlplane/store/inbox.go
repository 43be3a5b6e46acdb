package store

import (
	"context"

	"github.com/MatthiasWiesner/tasker"
)

// Applied is the outcome of a batch of reports.
type Applied struct {
	// Orders are to be sent in response: welcomes, and assignments of open broadcasts
	// for agents that connected late.
	Orders []tasker.Order
	// Updates counts the updates by outcome: applied, stale, unknown.
	Updates map[string]int
	// Finished are the tasks that this batch ended, without payload and endpoints.
	Finished []tasker.Task
}

// Inbox stores agents' reports.
type Inbox struct {
	db     *database
	writer *batchWriter
}

// Apply writes reports in one transaction, which concurrent calls share. Reports of
// an endpoint whose name is invalid count as unknown.
func (i *Inbox) Apply(ctx context.Context, reports []tasker.Report) (Applied, error) {
	if len(reports) == 0 {
		return Applied{}, nil
	}
	return i.writer.writeReports(ctx, reports)
}
