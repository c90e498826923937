// A sweep file as it was read, before its points are made. Shared by the search_*.c files only.
#pragma once

#include "commands/config_keys.h"
#include "data/metric.h"
#include "runtime/options.h"
#include "sweep/search.h"

enum { SEARCH_POINTS = 100000 }; // of a search, at most

typedef struct {
#define SEARCH_SECTION
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "sweep/search_options.def"
} SearchOptions;

typedef struct {
#define METRIC_SECTION
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "sweep/search_options.def"
} MetricOptions;

typedef struct {
#define RANDOM_SECTION
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "sweep/search_options.def"
} RandomOptions;

typedef struct {
#define BUDGET_SECTION
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "sweep/search_options.def"
} BudgetOptions;

typedef struct {
#define EARLY_STOP_SECTION
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "sweep/search_options.def"
} EarlyStopOptions;

typedef struct {
#define ON_FAILURE_SECTION
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "sweep/search_options.def"
} OnFailureOptions;

typedef enum { AXIS_POINTS, AXIS_UNIFORM, AXIS_LOG_UNIFORM, AXIS_INT_UNIFORM } AxisKind;

// One axis of the product: a key, or several in step.
typedef struct {
    TextList keys;
    TextList values; // (count, keys) of AXIS_POINTS, as option_print shows them
    int64_t count;   // of its points; 0: a range, to draw from
    AxisKind kind;
    double from, to; // of a range
    bool cross;      // with every sample of a random search, instead of being drawn
} Axis;

typedef struct {
    Axis *items;
    int64_t count;
} AxisList;

// Settings and axes that are given together: those of all runs, or those of an arm.
typedef struct {
    char base[4096]; // "": none of its own
    TextList set;    // key=value
    AxisList axes;
} Scope;

// A key of an element of `exclude`, and what it must be for the element to leave a run out.
typedef enum { MATCH_VALUES, MATCH_LT, MATCH_LE, MATCH_GT, MATCH_GE } MatchKind;
typedef struct {
    int64_t element; // of `exclude`
    char key[64];    // "arm": its name
    MatchKind kind;
    TextList values; // one of them
    double limit;
} Match;

typedef struct {
    const char *path;
    int64_t points;  // of the search, at most
    bool rebased;    // another base takes the place of the file's
    const Json *json;
    Errors *errors;
    SearchOptions options;
    MetricOptions metric;
    RandomOptions random;
    BudgetOptions budget;
    EarlyStopOptions early_stop;
    OnFailureOptions on_failure;
    unsigned given;   // which of the sections below the file has
    TextList strings; // of the options
    Scope common;
    TextList arms;    // their names
    Scope *scopes;    // of the arms
    Match *matches;
    int64_t match_count;
    int64_t exclusions; // elements of `exclude`
} SearchFile;
enum { GIVEN_METRIC = 2, GIVEN_RANDOM = 4, GIVEN_BUDGET = 8, GIVEN_EARLY_STOP = 16, GIVEN_ON_FAILURE = 32 };

// `path`, `points` and `rebased` are set, all else is zero. All mistakes are collected. To be closed after a failure,
// too.
bool search_file_read(SearchFile *file, Errors *errors);
void search_file_close(SearchFile *file);

// A mistake at a node; `key` "": none. Always false. And whether so many were found that nobody is told of more.
bool search_complain(const SearchFile *file, const cJSON *node, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
bool search_enough(const SearchFile *file);

// A value of a key as the configuration will show it.
bool search_read_value(SearchFile *file, const OptionRow *row, const char *key, const cJSON *node, Text *out);

// "axes", "paired" and "set" of the file or an arm; "exclude" of the file.
void search_read_axes(SearchFile *file, const cJSON *node, Scope *scope);
void search_read_paired(SearchFile *file, const cJSON *node, Scope *scope);
void search_read_set(SearchFile *file, const cJSON *node, Scope *scope);
void search_read_exclude(SearchFile *file, const cJSON *node);

// Whether a run is left out; counts one hit for each element that does it. `config` is resolved; "" where the file has
// no arms.
bool search_excludes(const SearchFile *file, const Config *config, const char *arm, int64_t *hits);

bool axis_has(const Axis *axis, const char *key);
const char *list_value(const TextList *settings, const char *key); // of "key=value"; NULL: not there

// The value of sample `index` of a random search, of the axis' key number `key`. It depends on nothing else.
void axis_draw(const Axis *axis, int64_t seed, int64_t index, int64_t key, Text *out);

// Makes the runs of the file's points. `base` takes the place of the file's, where it is not NULL.
bool search_make_runs(Search *search, const SearchFile *file, const char *base, const TextList *overrides,
                      Errors *errors);
