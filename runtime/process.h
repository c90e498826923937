// What every command of the program begins and ends with.
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "runtime/text.h"

// Standard streams that the caller closed are filled, and a mapped file that becomes shorter or cannot be read ends the
// process with a message and exit code 65 instead of a signal; a file that may not become as large (ulimit -f) is an
// error of that write, not a signal. The command line is kept as it came.
void process_begin(int argc, char *const *argv);
const TextList *process_command(void);

// The exit code to leave with: a result that could not be written to standard output is no result (73, and a message).
int process_end(int exit_code);

// Behind fork(2), in the child. A parent that dies takes it along. It has a group of its own: what a terminal or a
// shell sends to a group comes once, from the parent. Writing to the terminal is no reason to stop.
void process_begin_child(pid_t parent, const sigset_t *mask);

// Whether training stops by it with a checkpoint; before it heeds it, it ends by it.
bool process_stops_by(int signal_number);

// The signals that a process with children passes on to them, and SIGCHLD, for sigtimedwait(2); not SIGHUP where
// somebody called with nohup.
void process_choose_signals(sigset_t *out);
