package journal

import (
	"errors"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

// half says whether a file that is large enough to matter is half empty.
func half(db *bolt.DB) bool {
	var size int64
	if err := db.View(func(tx *bolt.Tx) error { size = tx.Size(); return nil }); err != nil {
		return false
	}
	free := int64(freePages(db)) * int64(db.Info().PageSize)
	return size >= compactFrom && free*2 >= size
}

// freePages counts the free pages. bbolt brings its statistics up to date at
// the end of a writing transaction only, so an empty one is begun and undone.
func freePages(db *bolt.DB) int {
	tx, err := db.Begin(true)
	if err != nil {
		return 0
	}
	if err := tx.Rollback(); err != nil {
		return 0
	}
	s := db.Stats()
	return s.FreePageN + s.PendingPageN
}

// compact replaces the file by a copy without the free pages and returns the
// copy, open and locked. The copy has its final name before the old file is
// unlocked; whoever waits for that lock finds that the name means another file.
//
// It only saves space, so what keeps it from its work (a full disk, mostly) is
// no error: the file stays as it is, to be compacted at another start.
func compact(db *bolt.DB, path string) *bolt.DB {
	temporary := path + ".compact"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return db
	}
	smaller, _, err := openBolt(temporary, time.Second)
	if err != nil {
		return db
	}
	err = guard(func() error { return bolt.Compact(smaller, db, 1<<20) })
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
	_ = db.Close() // it was read only, and has lost its name
	return smaller
}
