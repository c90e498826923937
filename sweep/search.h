// A sweep file, and the runs that it asks for: every configuration resolved and checked, each once. The file is
// described in docs/sweeps.md.
#pragma once

#include "data/sweep_log.h"
#include "runtime/json.h"

typedef struct {
    char id[SWEEP_ID];
    int64_t arm;       // of Search.arms; -1: the file has none
    Text config;       // canonical JSON of the resolved configuration, without run.dir
    TextList settings; // "key=value" of what sets it apart, in the order of the axes
} SearchRun;

typedef struct {
    char name[64], dir[4096];
    char metric[64]; // "val_loss"
    bool maximise, at_best;
    int64_t gpus_per_run, max_parallel, retries; // max_parallel 0: no limit
    double max_seconds;                          // of one call, whose runs stop then; 0: no limit
    int64_t min_steps, eta;                      // of successive halving; min_steps 0: nothing is pruned
    TextList arms;
    SearchRun *runs; // in the order of the file
    int64_t count;
    int64_t points, duplicates, excluded; // points of the search, and those of them that are no run of their own
    TextList notes; // what a person should know: sentences, without a newline
} Search;

typedef struct {
    const char *path;       // of the sweep file
    char *const *overrides; // key=value for all runs; base=FILE takes the place of the file's `base`
    int count;
    const char *dir;        // NULL: what the file says, or sweeps/NAME; with overrides that change results, -<6 hex>
    int64_t points;         // of the search, at most; 0: 100000
} SearchRequest;

// All errors of the file and of all its runs are collected, each with file:line:column and key; exit 2 (66: no file).
// To be closed after a failure, too.
bool search_open(Search *search, const SearchRequest *request, Errors *errors);
void search_close(Search *search);

// A member for each of its settings, as JSON number, boolean or string.
void search_settings_json(const SearchRun *run, JsonWriter *writer);
