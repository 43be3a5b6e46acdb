// Package script is the handler that runs an executable from a directory, named
// as the task type: to serve a type, drop a file there.
//
// The payload comes on stdin as JSON, who asks is in TASKER_… variables, the
// working directory is the script directory. Exit code 0 is succeeded; otherwise
// the last line of stderr is the error. What the script prints is its output,
// except for two kinds of lines on stdout:
//
//	::progress 40 unpacking
//	::result {"version": "1.2"}
//
// Lines on stdout were chosen over a file descriptor of their own because they
// get through sudo, ssh and docker exec, which close all others, and need
// nothing when the script is run by hand. The price: output of other programs
// can contain such lines too. It can only mislead people, the last result
// counts, and a script that minds sends such output to stderr, where nothing is
// interpreted.
//
// A comment near the top of the script may hold its restart contract, and say that
// it can be asked for a plan or to undo a task. Without plan=yes and undo=yes it is
// never run but to perform one: a script that does not look at TASKER_ACTION would.
//
//	# tasker: restart=retry plan=yes undo=yes
//
// Whoever can write the directory decides what runs as the agent's user. So the
// script, its directory and every directory above must belong to root or to the
// agent's user and must not be writable by group or others (a directory above
// may be, if it is sticky, as /tmp is). Symbolic links that lead out of the
// directory are not followed, names are those of task types, so there are no
// hidden files and no way out of the directory.
package script
