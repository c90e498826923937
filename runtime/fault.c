#include "runtime/fault.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/error.h"
#include "runtime/text.h"

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

// ---- plants ----

enum { PLANTS = 16 };

typedef struct {
    int64_t step, micro, element;
    double value;
    bool once, struck;
} Plant;

static Plant plants[PLANTS];
static int plant_count;

// Decimal digits and no more.
static bool parse_count(const char *text, int64_t *count) {
    size_t digits = strspn(text, "0123456789");
    *count = strtoll(text, NULL, 10);
    return digits > 0 && digits <= 18 && !text[digits];
}

static bool parse_value(const char *text, double *value) {
    static const struct {
        const char *name;
        double value;
    } names[] = {{"nan", NAN}, {"inf", INFINITY}, {"-inf", -INFINITY}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        *value = names[i].value;
        if (strcmp(text, names[i].name) == 0) return true;
    }
    const char *end = text_read_number(text, value);
    return end && !*end;
}

// Destroys the text.
static bool parse_plant(char *text, Plant *plant) {
    const char *fields[5] = {"", "", "", "", "once"};
    int count = 0;
    for (char *field; (field = strsep(&text, ":")); count++)
        if (count < 5) fields[count] = field;
    plant->once = count == 5;
    return (count == 4 || count == 5) && strcmp(fields[4], "once") == 0 && parse_count(fields[0], &plant->step) &&
           plant->step > 0 && parse_count(fields[1], &plant->micro) && parse_count(fields[2], &plant->element) &&
           parse_value(fields[3], &plant->value);
}

static void parse_plants(const char *text) {
    plant_count = 0;
    memset(plants, 0, sizeof plants);
    if (!text || !*text) return;
    char *copy = strdup(text), *rest = copy;
    bool good = copy;
    for (char *one; good && (one = strsep(&rest, ",")); plant_count++)
        good = plant_count < PLANTS && parse_plant(one, &plants[plant_count]);
    free(copy);
    if (!good)
        DIE(EXIT_USAGE, "THALWEG_PLANT=%s: expected STEP:MICRO:ELEMENT:VALUE or STEP:MICRO:ELEMENT:VALUE:once, such as "
            "3:0:17:nan, STEP from 1, or up to %d of them with commas between", text, PLANTS);
}

// ---- both ----

static void read_environment(void) {
    parse(getenv("THALWEG_FAULT"));
    rule.told = true;
    parse_plants(getenv("THALWEG_PLANT"));
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

bool fault_plant(int64_t step, int64_t micro, int64_t *element, double *value) {
    pthread_once(&environment_read, read_environment);
    for (Plant *plant = plants; plant < plants + plant_count; plant++) {
        if (plant->step != step || plant->micro != micro || (plant->once && plant->struck)) continue;
        plant->struck = true;
        *element = plant->element;
        *value = plant->value;
        return true;
    }
    return false;
}

void fault_set(const char *text) {
    pthread_once(&environment_read, read_environment);
    parse(text);
    atomic_store(&counted, 0);
}

int64_t fault_operations(void) { return atomic_load(&counted); }
