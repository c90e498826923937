#include "runtime/fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/error.h"

typedef enum { FAULT_NONE, FAULT_ERROR, FAULT_SHORT, FAULT_TORN, FAULT_KILL, FAULT_TELL } FaultKind;

static struct {
    FaultKind kind;
    int64_t operation; // that it strikes
    bool lasting;      // and those after it
    int error;
    bool told; // on standard error
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
    static const struct {
        const char *name;
        FaultKind kind;
    } kinds[] = {{":short", FAULT_SHORT}, {":torn", FAULT_TORN}, {":kill", FAULT_KILL}, {":tell", FAULT_TELL}};
    memset(&rule, 0, sizeof rule);
    if (!text || !*text) return;
    char *kind;
    rule.operation = strtoll(text, &kind, 10);
    rule.lasting = *kind == '+';
    if (rule.lasting) kind++;
    rule.error = *kind == ':' ? error_number(kind + 1) : 0;
    if (rule.error) rule.kind = FAULT_ERROR;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kind, kinds[i].name) == 0) rule.kind = kinds[i].kind;
    if (rule.kind == FAULT_NONE || rule.operation < 1)
        DIE(EXIT_USAGE, "THALWEG_FAULT=%s: expected n:KIND or n+:KIND with n >= 1, KIND an ERRNO, short, torn, kill or "
            "tell, such as 3:ENOSPC", text);
}

static void read_environment(void) {
    parse(getenv("THALWEG_FAULT"));
    rule.told = true;
}

static void tell(int64_t operation, bool writes) {
    if (rule.told) fprintf(stderr, "THALWEG_FAULT: operation %ld%s\n", operation, writes ? ", a write" : "");
}

// What strikes the operation that begins now.
static FaultKind strike(bool writes) {
    pthread_once(&environment_read, read_environment);
    int64_t operation = atomic_fetch_add(&counted, 1) + 1;
    if (operation < rule.operation || (operation > rule.operation && !rule.lasting)) return FAULT_NONE;
    bool only_writes = rule.kind == FAULT_SHORT || rule.kind == FAULT_TORN;
    if (rule.kind == FAULT_NONE || (only_writes && !writes)) return FAULT_NONE;
    tell(operation, writes);
    if (rule.kind == FAULT_KILL) raise(SIGKILL);
    if (rule.kind == FAULT_ERROR) errno = rule.error;
    return rule.kind;
}

bool fault_next(void) { return strike(false) == FAULT_ERROR; }

ssize_t fault_write(int descriptor, const void *bytes, size_t size) {
    FaultKind kind = strike(true);
    if (kind == FAULT_ERROR) return -1;
    bool half = kind == FAULT_SHORT || kind == FAULT_TORN;
    ssize_t wrote = write(descriptor, bytes, half ? (size + 1) / 2 : size);
    if (kind == FAULT_TORN) raise(SIGKILL);
    return wrote;
}

void fault_set(const char *text) {
    pthread_once(&environment_read, read_environment);
    parse(text);
    atomic_store(&counted, 0);
}

int64_t fault_operations(void) { return atomic_load(&counted); }
