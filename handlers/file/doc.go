// Package file is the handler that writes and removes files in directories that
// the agent's own configuration allows.
//
// A file is never half written: the new one is made beside the old one, gets its
// owner, mode and labels, is synced, read back and validated, and then takes the
// old one's name. Until then the old one is as it was, and readers see the old
// one or the new one.
//
// An allowed directory is an [os.Root]: links that lead out of it are not
// followed, not even by somebody who swaps a directory for a link meanwhile. The
// file itself must not be a link, since it would be replaced by a file.
//
// Contents may be secrets. They are in no error and in no log, and in a result only
// as a diff, of files that everybody on the server can read or where the payload
// asks for it.
package file
