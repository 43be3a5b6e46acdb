package store_test

import (
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/migrations"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

// earlier returns the migrations before the one with this number, like 00007.
func earlier(t *testing.T, number string) fs.FS {
	t.Helper()
	files := fstest.MapFS{}
	must(t, fs.WalkDir(migrations.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".sql") || path.Base(name) >= number {
			return err
		}
		data, err := fs.ReadFile(migrations.Files, name)
		files[name] = &fstest.MapFile{Data: data}
		return err
	}))
	return files
}

// migrateFrom creates a database of an earlier version, executes the statements, and
// opens the store, which migrates the database.
func migrateFrom(t *testing.T, o store.Options, number string, statements ...string) *store.Store {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldb.Options{URI: o.URI, DataDir: o.DataDir, Migrations: earlier(t, number)})
	must(t, err)
	must(t, db.Migrate(t.Context()))
	writer, _ := db.Pools()
	for _, s := range statements {
		if _, err := writer.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	must(t, db.Close())
	return storetest.Open(t, o)
}

// The labels of a fleet that upgrades are still selected, but are not the agents' choice
// any longer.
func TestUpgradeBindsTheLabelsOfEnrolledEndpoints(t *testing.T) {
	t.Parallel()
	for name, options := range storetest.Dialects() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoint := func(name, presence string) string {
				return "INSERT INTO endpoints (name, instance, session, connected, first_seen, last_seen, silent_at, presence) VALUES ('" +
					name + "', 'i', 's', 1, 1, 1, 1, '" + presence + "')"
			}
			credential := func(name, enrolled, revoked string) string {
				return "INSERT INTO credentials (endpoint, token_id, enrolled_at, revoked_at, revoked_by) VALUES ('" + name + "', 't', " + enrolled + ", " + revoked + ", '')"
			}
			s := migrateFrom(t, options(t), "00007",
				endpoint("enrolled", `{"version":"1","labels":{"role":"web","größe":"ä"}}`), credential("enrolled", "1", "NULL"),
				endpoint("without", `{"version":"1","labels":null}`), credential("without", "1", "NULL"),
				endpoint("old", `{"version":"1"}`), credential("old", "1", "NULL"),
				endpoint("revoked", `{"labels":{"role":"web"}}`), credential("revoked", "1", "1"),
				endpoint("plain", `{"labels":{"role":"web"}}`),
				credential("never-connected", "1", "NULL"),
			)
			f := &fixture{Store: s}
			f.wantLabels(t, "enrolled", map[string]string{"role": "web", "größe": "ä"}, map[string]string{"role": "web", "größe": "ä"})
			// A label whose name would not be valid today can be removed.
			must(t, s.LabelEndpoint(t.Context(), "enrolled", map[string]string{"zone": "a"}, []string{"größe"}))
			f.wantLabels(t, "enrolled", map[string]string{"role": "web", "zone": "a"}, map[string]string{"role": "web", "größe": "ä"})
			for _, name := range []string{"without", "old", "never-connected"} {
				f.wantLabels(t, name, nil, nil)
			}
			f.wantLabels(t, "revoked", nil, map[string]string{"role": "web"})
			f.wantLabels(t, "plain", map[string]string{"role": "web"}, map[string]string{"role": "web"})
		})
	}
}
