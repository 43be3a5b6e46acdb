package journal

import (
	"errors"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

// compactFrom is the file size, in bytes, from which a half-empty file is compacted.
const compactFrom = 1 << 20

// isHalfEmpty reports whether a file is large and at least half of it is free pages.
func isHalfEmpty(db *bolt.DB) bool {
	// bbolt updates its statistics only at the end of a writing transaction.
	tx, err := db.Begin(true)
	if err != nil {
		return false
	}
	size := tx.Size()
	if err := tx.Rollback(); err != nil {
		return false
	}
	s := db.Stats()
	free := int64(s.FreePageN+s.PendingPageN) * int64(db.Info().PageSize)
	return size >= compactFrom && free*2 >= size
}

// compact replaces the file by a copy without free pages, and returns the copy, open and
// locked. The copy gets its final name before the old file is unlocked. A process that
// waits for the lock then finds that the name belongs to another file.
//
// Compacting only saves space. If it fails, mostly because the disk is full, the file
// stays as it is until another start.
func compact(db *bolt.DB, path string) *bolt.DB {
	temporary := path + ".compact"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return db
	}
	smaller, _, err := openBolt(temporary, time.Second)
	if err != nil {
		return db
	}
	err = recoverCorrupt(func() error { return bolt.Compact(smaller, db, 1<<20) })
	if err == nil {
		err = smaller.Sync()
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_, _ = smaller.Close(), os.Remove(temporary)
		return db
	}
	_ = db.Close() // it was only read, and its name is gone
	return smaller
}
