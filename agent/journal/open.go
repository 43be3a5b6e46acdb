package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/MatthiasWiesner/tasker/internal/atomicfile"
	"github.com/MatthiasWiesner/tasker/internal/groupcommit"
)

// FileName is the name of the journal in the data directory.
const FileName = "journal.db"

// format is the version of the file format.
const format = 1

// Options configure Open.
type Options struct {
	// LockTimeout is how long to wait until another process unlocks the file; zero is
	// 3 s.
	LockTimeout time.Duration
}

// Open opens the journal in dir, and creates both if they are missing. It does not change
// a file that it cannot read or that a newer program has written.
func Open(dir string, opts Options) (*Journal, error) {
	if opts.LockTimeout <= 0 {
		opts.LockTimeout = 3 * time.Second
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the data directory: %w", err)
	}
	path := filepath.Join(dir, FileName)
	j, err := openFile(path, opts.LockTimeout)
	switch {
	case errors.Is(err, ErrLocked):
		return nil, fmt.Errorf("journal %s is %w: stop the other agent, or give this one its own data_dir", path, err)
	case errors.Is(err, ErrTooNew):
		return nil, fmt.Errorf("journal %s was %w; use that version, or move the file away to start afresh", path, err)
	case errors.Is(err, ErrCorrupt):
		return nil, fmt.Errorf("journal %s is %w; move the file away to start afresh (its unsent reports are then lost)", path, err)
	case err != nil:
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	return j, nil
}

func openFile(path string, timeout time.Duration) (*Journal, error) {
	deadline := time.Now().Add(timeout)
	for {
		db, current, err := openBolt(path, max(time.Until(deadline), time.Millisecond))
		if err != nil {
			return nil, err
		}
		if !current {
			// The owner of the lock has replaced the file meanwhile.
			if err := db.Close(); err != nil {
				return nil, err
			}
			continue
		}
		return prepare(db, path)
	}
}

// openBolt opens and locks the file. It reports as current whether the file is still the
// one at path.
func openBolt(path string, timeout time.Duration) (db *bolt.DB, current bool, err error) {
	var file *os.File
	err = recoverCorrupt(func() error {
		db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout:      timeout,
			FreelistType: bolt.FreelistMapType,
			OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
				f, err := os.OpenFile(name, flag, mode)
				file = f
				return f, err
			},
		})
		return err
	})
	if err != nil {
		if db == nil && file != nil {
			// After a panic bbolt has not unlocked the file. Its memory map would keep
			// the lock after the close.
			_, _ = unix.Flock(int(file.Fd()), unix.LOCK_UN), file.Close()
		}
		return nil, false, classify(err)
	}
	opened, err := file.Stat()
	if err != nil {
		return nil, false, errors.Join(err, db.Close())
	}
	named, err := os.Stat(path)
	return db, err == nil && os.SameFile(opened, named), nil
}

// classify wraps an error of bbolt in an error of this package.
func classify(err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return ErrLocked
	case errors.Is(err, berrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %w", ErrTooNew, err)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrInvalidMapping):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// recoverCorrupt runs fn, and returns ErrCorrupt if it panics or causes a memory fault.
// bbolt panics on some damaged files, and a file that is too short causes a fault.
func recoverCorrupt(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
	}()
	return fn()
}

// prepare verifies the file, compacts it, and counts the opening. It closes db if it
// fails.
func prepare(db *bolt.DB, path string) (*Journal, error) {
	if err := recoverCorrupt(func() error { return db.View(verify) }); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if isHalfEmpty(db) {
		db = compact(db, path)
	}
	j := &Journal{db: db}
	// One write may be the reason why a transaction fails, so retry each of them alone.
	j.writes = groupcommit.New(maxShared, func(error) bool { return true }, j.commit)
	err := db.Update(func(tx *bolt.Tx) (err error) {
		j.instance, j.epoch, err = initialise(tx)
		return err
	})
	if err == nil {
		// A new file is durable once its directory is.
		err = atomicfile.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare: %w", err), db.Close())
	}
	return j, nil
}

// verify reads everything that a restart depends on.
func verify(tx *bolt.Tx) error {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil {
		return tx.ForEach(func(name []byte, _ *bolt.Bucket) error {
			return fmt.Errorf("%w: not an agent's journal (it has a bucket %q)", ErrCorrupt, name)
		})
	}
	version, err := strconv.Atoi(string(meta.Get([]byte("format"))))
	switch {
	case err != nil:
		return fmt.Errorf("%w: format: %w", ErrCorrupt, err)
	case version > format:
		return fmt.Errorf("%w (format %d, this version reads up to %d)", ErrTooNew, version, format)
	case len(meta.Get([]byte("instance"))) == 0:
		return fmt.Errorf("%w: no instance", ErrCorrupt)
	}
	if _, err := readEpoch(meta); err != nil {
		return err
	}
	b := bucketsOf(tx)
	if b.entries == nil || b.payloads == nil || b.reports == nil || b.tombstones == nil {
		return fmt.Errorf("%w: a bucket is missing", ErrCorrupt)
	}
	if err := b.eachEntry(func(Entry) {}); err != nil {
		return err
	}
	return b.eachTombstone(func([]byte, Tombstone) {})
}

func readEpoch(meta *bolt.Bucket) (int64, error) {
	n, err := strconv.ParseInt(string(meta.Get([]byte("epoch"))), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%w: epoch: %w", ErrCorrupt, err)
	}
	return n, nil
}

// initialise creates what a new file lacks, counts the opening, and returns the instance
// and the epoch.
func initialise(tx *bolt.Tx) (instance string, epoch int64, err error) {
	for _, name := range []string{bucketMeta, bucketEntries, bucketPayloads, bucketReports, bucketTombstones} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return "", 0, err
		}
	}
	meta := tx.Bucket([]byte(bucketMeta))
	if meta.Get([]byte("format")) == nil {
		id, err := uuid.NewRandom()
		if err != nil {
			return "", 0, fmt.Errorf("create the instance id: %w", err)
		}
		for k, v := range map[string]string{"format": strconv.Itoa(format), "instance": id.String(), "epoch": "0"} {
			if err := meta.Put([]byte(k), []byte(v)); err != nil {
				return "", 0, err
			}
		}
	}
	epoch, err = readEpoch(meta)
	if err != nil {
		return "", 0, err
	}
	epoch++
	return string(meta.Get([]byte("instance"))), epoch, meta.Put([]byte("epoch"), strconv.AppendInt(nil, epoch, 10))
}
