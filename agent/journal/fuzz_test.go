package journal

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// A record of an assignment is either reported as corrupt, or is the same after it was
// written again.
func FuzzEntry(f *testing.F) {
	for _, seed := range []string{
		`{"task_id":"t","attempt":1,"identifier":"i","type":"ping","handler":"ping","timeout":"1m","deadline":"2026-03-01T12:00:00Z","sequence":1,"phase":1}`,
		`{"phase":-1,"attempt":4294967296}`,
		`{"last_update":{"status":"failed","result":[1]}}`,
		`{"task_id":`, `null`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	db, err := bolt.Open(filepath.Join(f.TempDir(), FileName), 0o600, &bolt.Options{NoSync: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	f.Fuzz(func(t *testing.T, record []byte) {
		tx, err := db.Begin(true)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }()
		entries, err := tx.CreateBucketIfNotExists([]byte(bucketEntries))
		if err != nil {
			t.Fatal(err)
		}
		if err := entries.Put([]byte("k"), record); err != nil {
			t.Fatal(err)
		}
		read := func() (string, error) {
			var found []Entry
			err := bucketsOf(tx).eachEntry(func(e Entry) { found = append(found, e) })
			encoded, _ := json.Marshal(found) // an error gives no text, which differs
			return string(encoded), err
		}
		first, err := read()
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("the error is not ErrCorrupt: %v", err)
			}
			return
		}
		var e Entry
		if err := get(entries, []byte("k"), &e); err != nil {
			t.Fatal(err)
		}
		if err := put(entries, []byte("k"), e); err != nil {
			t.Fatalf("a record that was read cannot be written: %v", err)
		}
		if again, err := read(); err != nil || again != first || again == "" {
			t.Errorf("read %s, and %s after it was written again (%v)", first, again, err)
		}
	})
}
