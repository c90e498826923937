#include "runtime/fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/error.h"

typedef enum { FAULT_NONE, FAULT_ERROR, FAULT_SHORT, FAULT_KILL } FaultKind;

static struct {
    FaultKind kind;
    int64_t operation; // that it strikes
    int error;
} rule;
static _Atomic int64_t counted;
static pthread_once_t environment_read = PTHREAD_ONCE_INIT;

static int error_number(const char *name) { // 0: no such name
    enum { LAST_ERROR = 133 };
    for (int error = 1; error <= LAST_ERROR; error++) {
        const char *candidate = strerrorname_np(error);
        if (candidate && strcmp(candidate, name) == 0) return error;
    }
    return 0;
}

static void parse(const char *text) {
    rule.kind = FAULT_NONE;
    if (!text || !*text) return;
    char *kind;
    rule.operation = strtoll(text, &kind, 10);
    rule.error = *kind == ':' ? error_number(kind + 1) : 0;
    if (strcmp(kind, ":kill") == 0) rule.kind = FAULT_KILL;
    if (strcmp(kind, ":short") == 0) rule.kind = FAULT_SHORT;
    if (rule.error) rule.kind = FAULT_ERROR;
    if (rule.kind == FAULT_NONE || rule.operation < 1)
        DIE(EXIT_USAGE, "THALWEG_FAULT=%s: expected n:ERRNO, n:short or n:kill with n >= 1, such as 3:ENOSPC", text);
}

static void read_environment(void) { parse(getenv("THALWEG_FAULT")); }

// What strikes the operation that begins now.
static FaultKind strike(void) {
    pthread_once(&environment_read, read_environment);
    int64_t operation = atomic_fetch_add(&counted, 1) + 1;
    if (rule.kind == FAULT_NONE || operation != rule.operation) return FAULT_NONE;
    if (rule.kind == FAULT_KILL) raise(SIGKILL);
    if (rule.kind == FAULT_ERROR) errno = rule.error;
    return rule.kind;
}

bool fault_next(void) { return strike() == FAULT_ERROR; }

bool fault_next_write(size_t *size) {
    FaultKind kind = strike();
    if (kind == FAULT_SHORT) *size = (*size + 1) / 2;
    return kind == FAULT_ERROR;
}

void fault_set(const char *text) {
    pthread_once(&environment_read, read_environment);
    parse(text);
    atomic_store(&counted, 0);
}

int64_t fault_operations(void) { return atomic_load(&counted); }
