// Package file writes and removes files in the directories that the agent's
// configuration allows. It is a handler.
//
// A file is never half written. The handler writes the new file beside the old one,
// copies owner, mode and extended attributes, flushes it to the disk, validates it, reads
// it back, and then renames it to the old one's name. Until then the old file does not
// change, and readers see either the old file or the new one.
//
// An allowed directory is an [os.Root], which other users must not be able to replace. Below
// it, the handler opens one directory after the other. It follows a link only if no other
// user can change the link, and never out of the allowed directory. The file itself must not
// be a link, because the rename would replace the link.
//
// The content of a file may be secret. It appears in no error and in no log. It appears
// in a result only as a diff, and only if all users of the server can read the file or
// the payload asks for the diff.
package file
