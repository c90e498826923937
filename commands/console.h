// Console: what a person sees while a run goes on. A live line on a terminal, plain lines elsewhere; all on stderr.
// Escape sequences are for terminals alone, and not where TERM is dumb; colours not with NO_COLOR.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "commands/live_line.h"
#include "runtime/error.h"

// Where the run is. On a terminal it is drawn at most ten times a second; elsewhere it is one of at most one line a
// second, if it is `due` for a line at all. A step that was skipped and the last one are always shown.
void console_step(const LiveLine *line, bool due);

// What goes on between two steps, shown at once in the live line, though not ten times a second; NULL: it is over.
void console_doing(const char *what);

// On a terminal: "WHAT 12%", where it takes more than a second; the next line replaces it.
void console_progress(const char *what, int64_t done, int64_t all);

// Takes the live line away, for what follows on standard output.
void console_wipe(void);
void console_abandon(void); // ends it, and may be called by a handler of signals

// What follows is not shown, but for errors: another rank shows the same.
void console_be_quiet(void);

// What was collected, above the live line, and closes it.
void console_errors(Errors *errors);

// A line of its own, above the live line.
void console_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

// The same for what may happen over and over: the first of each `kind` is told. How many more there were is told by
// console_end: "KIND (N more times)".
void console_warn(const char *kind, const char *format, ...) __attribute__((format(printf, 2, 3)));
void console_end(void);
