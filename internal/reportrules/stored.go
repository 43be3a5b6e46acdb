package reportrules

import (
	"cmp"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// The limits of the output of an attempt.
const (
	// MaxOutput is how many bytes are kept.
	MaxOutput = 320 << 10
	// maxPieces is how many pieces are kept. An agent sends at most one a second until
	// it has sent the first 256 KiB.
	maxPieces = 16 << 10
	// maxOutputBytes bounds the total size that an agent reports.
	maxOutputBytes = 1 << 50
)

// ClampTimes returns the update with its times between released, at which the order was
// released, and now. received is when the attempt was received according to an earlier
// report, or nil.
//
// An agent sets its clock from the welcome and lags by the time that the welcome took.
// All three times shift by the same amount, which keeps reported durations. The times are
// in order, and a time that the agent did not report stays absent.
func ClampTimes(u tasker.Update, released time.Time, received *time.Time, now time.Time) tasker.Update {
	if released.After(now) {
		released = now
	}
	earliest, shift := released, time.Duration(0)
	if u.ReceivedAt != nil {
		at := *u.ReceivedAt
		if received != nil {
			at = *received
		}
		earliest = clamp(at, released, now)
		shift = earliest.Sub(*u.ReceivedAt) // at most 292 years, which is long enough
	}
	for _, field := range []**time.Time{&u.ReceivedAt, &u.StartedAt, &u.FinishedAt} {
		if *field != nil {
			at := clamp((*field).Add(shift), earliest, now)
			*field, earliest = &at, at
		}
	}
	return u
}

func clamp(t, earliest, latest time.Time) time.Time {
	switch {
	case t.Before(earliest):
		return earliest
	case t.After(latest):
		return latest
	}
	return t
}

// Span is a stored piece of the output of an attempt.
type Span struct {
	Offset int64
	Length int64
}

// NewOutput returns the parts of an update's output that are to be stored: parts that are not
// stored yet, within the size that the agent reports and within MaxOutput for the attempt.
// size is the size of the output according to this report, or to the final report if the
// attempt has ended.
func NewOutput(chunks []tasker.Chunk, size int64, stored []Span) []tasker.Chunk {
	kept := slices.Clone(stored)
	total := int64(0)
	for _, s := range kept {
		total += s.Length
	}
	var parts []tasker.Chunk
	for _, c := range chunks {
		for _, part := range uncovered(c, size, kept) {
			if room := MaxOutput - total; int64(len(part.Data)) > room {
				part.Data = part.Data[:max(room, 0)]
			}
			if len(part.Data) == 0 || len(kept) >= maxPieces {
				continue
			}
			total += int64(len(part.Data))
			kept = append(kept, Span{part.Offset, int64(len(part.Data))})
			parts = append(parts, part)
		}
	}
	return parts
}

// uncovered returns the parts of a chunk that lie within size and in no span.
func uncovered(c tasker.Chunk, size int64, spans []Span) []tasker.Chunk {
	at, end := max(c.Offset, 0), int64(0)
	if c.Offset >= 0 && c.Offset <= size {
		end = min(c.Offset+int64(len(c.Data)), size)
	}
	spans = slices.SortedFunc(slices.Values(spans), func(a, b Span) int { return cmp.Compare(a.Offset, b.Offset) })
	var parts []tasker.Chunk
	part := func(from, to int64) {
		if from < to {
			parts = append(parts, tasker.Chunk{Offset: from, Data: c.Data[from-c.Offset : to-c.Offset]})
		}
	}
	for _, s := range spans {
		if s.Offset >= end {
			break
		}
		part(at, min(s.Offset, end))
		at = max(at, s.Offset+s.Length)
	}
	part(at, end)
	return parts
}
