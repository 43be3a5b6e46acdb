package journal

import (
	"bytes"
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

// FileName is the journal's name within the data directory.
const FileName = "journal.db"

// format is the version of the file's layout.
const format = 1

// compactFrom is the size in bytes from which a half empty file is compacted.
const compactFrom = 1 << 20

// Options say how to open a journal.
type Options struct {
	// LockTimeout is how long to wait for another process to give up the file;
	// zero is 3 s.
	LockTimeout time.Duration
}

// Open opens the journal in dir, making both if they are missing. A file that
// it cannot read, or that belongs to a newer program, is left as it is.
func Open(dir string, opts Options) (*Journal, error) {
	if opts.LockTimeout <= 0 {
		opts.LockTimeout = 3 * time.Second
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	path := filepath.Join(dir, FileName)
	j, err := openFile(path, opts.LockTimeout)
	switch {
	case errors.Is(err, ErrLocked):
		return nil, fmt.Errorf("journal %s is %w: stop the other agent, or give this one its own data_dir", path, err)
	case errors.Is(err, ErrTooNew):
		return nil, fmt.Errorf("journal %s was %w; use that version, or move the file away to begin anew", path, err)
	case errors.Is(err, ErrCorrupt):
		return nil, fmt.Errorf("journal %s is %w; move the file away to begin anew (unsent reports in it are lost then)", path, err)
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
			// The lock was got on a file that its owner has since replaced.
			if err := db.Close(); err != nil {
				return nil, err
			}
			continue
		}
		return begin(db, path)
	}
}

// openBolt opens the file and says whether it still is the one at path. bbolt
// panics on some damaged files, and the operating system faults where one is
// shorter than it says: both are returned as ErrCorrupt.
func openBolt(path string, timeout time.Duration) (db *bolt.DB, current bool, err error) {
	var file *os.File
	err = guard(func() error {
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
			// A panic keeps bbolt from unlocking, and the map that it leaves behind
			// would keep the lock alive past the close.
			_, _ = unix.Flock(int(file.Fd()), unix.LOCK_UN), file.Close()
		}
		return nil, false, explain(err)
	}
	opened, err := file.Stat()
	if err != nil {
		return nil, false, errors.Join(err, db.Close())
	}
	named, err := os.Stat(path)
	return db, err == nil && os.SameFile(opened, named), nil
}

func explain(err error) error {
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

// guard turns a panic or a memory fault within fn into ErrCorrupt.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
	}()
	return fn()
}

// begin reads the whole file, compacts it, and counts the opening. It closes db
// when it fails.
func begin(db *bolt.DB, path string) (*Journal, error) {
	if err := guard(func() error { return db.View(check) }); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if half(db) {
		db = compact(db, path)
	}
	j := &Journal{db: db}
	// A write is the fault of one, or fails for each by itself as well.
	j.writes = groupcommit.New(maxShared, func(error) bool { return true }, j.write)
	err := db.Update(j.initialise)
	if err == nil {
		// A file that was made just now is durable when its directory is.
		err = atomicfile.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare: %w", err), db.Close())
	}
	return j, nil
}

// check reads everything that a restart depends on.
func check(tx *bolt.Tx) error {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil {
		return tx.ForEach(func(name []byte, _ *bolt.Bucket) error {
			return fmt.Errorf("%w: no journal of an agent (it has a bucket %q)", ErrCorrupt, name)
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
	if _, err := epoch(meta); err != nil {
		return err
	}
	t := open(tx)
	if t.entries == nil || t.payloads == nil || t.reports == nil || t.tombstones == nil {
		return fmt.Errorf("%w: a bucket is missing", ErrCorrupt)
	}
	if err := t.eachEntry(func(Entry) {}); err != nil {
		return err
	}
	return t.eachTombstone(func([]byte, Tombstone) {})
}

func epoch(meta *bolt.Bucket) (int64, error) {
	n, err := strconv.ParseInt(string(meta.Get([]byte("epoch"))), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%w: epoch: %w", ErrCorrupt, err)
	}
	return n, nil
}

// initialise makes what a new file lacks and counts the opening.
func (j *Journal) initialise(tx *bolt.Tx) error {
	for _, name := range []string{bucketMeta, bucketEntries, bucketPayloads, bucketReports, bucketTombstones} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	meta := tx.Bucket([]byte(bucketMeta))
	if meta.Get([]byte("format")) == nil {
		id, err := uuid.NewRandom()
		if err != nil {
			return fmt.Errorf("make the instance id: %w", err)
		}
		for k, v := range map[string]string{"format": strconv.Itoa(format), "instance": id.String(), "epoch": "0"} {
			if err := meta.Put([]byte(k), []byte(v)); err != nil {
				return err
			}
		}
	}
	n, err := epoch(meta)
	if err != nil {
		return err
	}
	j.instance, j.epoch = string(bytes.Clone(meta.Get([]byte("instance")))), n+1
	return meta.Put([]byte("epoch"), strconv.AppendInt(nil, j.epoch, 10))
}
