// Package migrations holds the SQL that makes and changes the tables, one
// directory per dialect, in the order of the numbers in the file names. Both
// directories hold the same numbers. A file that was released is never changed.
package migrations

import "embed"

// Files are the directories sqlite and mysql.
//
//go:embed sqlite/*.sql mysql/*.sql
var Files embed.FS
