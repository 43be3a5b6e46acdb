package store

import (
	"context"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/groupcommit"
)

// ApplyResult is the outcome of a batch of reports.
type ApplyResult struct {
	// Orders are to be sent in response: welcomes, and assignments of open broadcasts
	// for agents that connected late.
	Orders []tasker.Order
	// Updates counts the updates by outcome: applied, stale, unknown.
	Updates map[string]int
	// Refused has the endpoint of each report that was refused, because another agent is
	// connected under the name; see endpointBatch.accepts.
	Refused []string
	// Reported are attempts on which this batch, or an earlier one, has reported.
	Reported []AttemptKey
	// Finished are the tasks that this batch ended, without payload and endpoints.
	Finished []tasker.Task
}

// Inbox stores agents' reports.
type Inbox struct {
	db     *database
	writer *batchWriter
}

// Apply writes reports in one transaction, which concurrent calls share. If calls share a
// transaction, one of them returns the result of all; the others return an empty result.
// Reports with an invalid endpoint name are dropped; their updates count as unknown.
func (i *Inbox) Apply(ctx context.Context, reports []tasker.Report) (ApplyResult, error) {
	if len(reports) == 0 {
		return ApplyResult{}, nil
	}
	return i.writer.writeReports(ctx, reports)
}

// maxBatch bounds the reports and deliveries that are written in one transaction.
const maxBatch = 2000

// batchWriter writes the reports and deliveries of concurrent calls in shared
// transactions.
type batchWriter struct {
	db      *database
	orders  orderBuilder
	rate    *heartbeatRate
	batches *groupcommit.Group[*batchItem]
}

func newBatchWriter(db *database, orders orderBuilder, rate *heartbeatRate) *batchWriter {
	w := &batchWriter{db: db, orders: orders, rate: rate}
	w.batches = groupcommit.New(maxBatch, retryIndividually, w.write)
	return w
}

// batchItem is one call: its reports or its deliveries.
type batchItem struct {
	reports    []tasker.Report
	deliveries []delivery
	result     ApplyResult
}

func (w *batchWriter) writeReports(ctx context.Context, reports []tasker.Report) (ApplyResult, error) {
	item := &batchItem{reports: reports}
	err := w.batches.Do(ctx, item, len(reports))
	return item.result, err
}

func (w *batchWriter) writeDeliveries(ctx context.Context, deliveries []delivery) error {
	if len(deliveries) == 0 {
		return nil
	}
	return w.batches.Do(ctx, &batchItem{deliveries: deliveries}, len(deliveries))
}

// write writes the items. The first one with reports gets the outcome of all.
func (w *batchWriter) write(ctx context.Context, items []*batchItem) error {
	var all batchItem
	var first *batchItem
	for _, item := range items {
		all.reports, all.deliveries = append(all.reports, item.reports...), append(all.deliveries, item.deliveries...)
		if first == nil && len(item.reports) > 0 {
			first = item
		}
	}
	var b *batch
	err := w.db.update(ctx, "write reports and deliveries", func(tx *tx) error {
		b = newBatch(tx, w, all)
		return b.write(ctx)
	})
	if err != nil || first == nil {
		return err
	}
	first.result = b.result
	return nil
}
