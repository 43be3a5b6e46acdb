// Package script is the handler that runs an executable from a directory. The name of the
// executable is the task type, so an operator adds a type by adding a file.
//
// The script reads the payload as JSON from stdin. Its environment has TASKER_ variables that
// describe the task, and its working directory is the script directory. Exit code 0 means
// success; otherwise the last line of stderr is the error. Everything that the script prints
// is the output of the task, except two kinds of lines on stdout, the directives:
//
//	::progress 40 unpacking
//	::result {"version": "1.2"}
//
// Directives are lines on stdout and not on another file descriptor, because stdout passes
// through sudo, ssh and docker exec, which close all other descriptors, and because a script
// can then be tried by hand. The disadvantage is that other programs may print such lines
// too. The last result wins, and a script can send the output of such a program to stderr,
// where directives are ignored.
//
// A header comment near the top of the script may set its restart contract, and declare that
// it supports dry runs and undo. Without plan=yes or undo=yes, the script is not run for that
// action, because a script that ignores TASKER_ACTION would perform the task.
//
//	# tasker: restart=retry plan=yes undo=yes
//
// Anyone who can write to the directory can run programs as the agent's user. So the script,
// its directory and every directory above must belong to root or to the agent's user, and
// must not be writable by their group or by others (a sticky directory above, such as /tmp,
// may be). The handler does not follow symbolic links out of the directory. A script name must
// be a valid task type, which excludes hidden files and path separators.
package script
