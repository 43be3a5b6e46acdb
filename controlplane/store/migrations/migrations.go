// Package migrations holds the SQL that creates and changes the tables. Package sqldb
// applies the files of one dialect's directory in the order of the numbers in their
// names. Both directories have the same numbers. The statements of a released file never
// change.
package migrations

import "embed"

// Files are the directories sqlite and mysql.
//
//go:embed sqlite/*.sql mysql/*.sql
var Files embed.FS
