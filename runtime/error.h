// Failing. Three ways, by who can help:
//   REQUIRE   our own promise is broken (shape, index, null): always on, exit 70.
//   DIE       the world refused and nobody above can do anything: exit with the given code.
//   Errors    somebody wrote or gave something wrong: collected, printed together, and the caller decides.
// A message names the file, key or byte, says what was expected and what to do next. It may quote what strangers wrote:
// every message passes through text_escape.
#pragma once

#include <stdbool.h>

#include "runtime/text.h"

// Exit codes of the program, after sysexits.h where it has one.
enum {
    EXIT_USAGE = 2,          // bad usage or configuration
    EXIT_DATA = 65,          // damaged data
    EXIT_NO_INPUT = 66,      // missing input
    EXIT_INTERNAL = 70,      // our own error
    EXIT_COMM = 71,          // communication failure
    EXIT_CANNOT_WRITE = 73,  // cannot write output
    EXIT_CHECKPOINT = 74,    // damaged checkpoint
    EXIT_STOPPED = 75,       // stopped by a signal, checkpoint written: requeue
    EXIT_DIVERGED = 76,      // too many bad steps
    EXIT_INTERRUPTED = 130,  // second SIGINT
};

// Messages of this process begin with "rank N: " from here on: others print beside it.
void error_name_rank(int rank);
const char *error_prefix(void); // that, or ""

// Called once before the process dies, so that peers do not wait for it; may be NULL.
extern void (*error_abort_hook)(void);

// Called before a message is printed that ends the process, so that it gets a line of its own; may be NULL.
extern void (*error_tell_hook)(void);

_Noreturn void error_die(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void error_require(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#define REQUIRE(condition, ...)                                                           \
    do {                                                                                  \
        if (!(condition)) error_require(__FILE__, __LINE__, #condition, __VA_ARGS__);     \
    } while (0)

#define DIE(exit_code, ...) error_die(exit_code, __VA_ARGS__)

// Collected messages, one line each; those beyond ERRORS_TOLD are only counted. The first one decides the exit code.
enum { ERRORS_TOLD = 100 };
typedef struct {
    Text text;
    int count;
    int exit_code;
} Errors;

// Adds one message; always returns false, so that a caller can `return errors_add(...)`.
bool errors_add(Errors *errors, int exit_code, const char *format, ...) __attribute__((format(printf, 3, 4)));

// Adds what `from` holds, which is empty afterwards; always returns false.
bool errors_move(Errors *errors, Errors *from);

// Prints what was collected to stderr and exits with its code; returns if there is nothing.
void errors_exit_if_any(Errors *errors);

void errors_close(Errors *errors);
