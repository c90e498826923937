// A sweep file, and the runs that it asks for: every configuration resolved and checked, each once.
#pragma once

#include "data/sweep_log.h"
#include "runtime/text.h"

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
    double max_seconds;                          // of the whole sweep; 0: no limit
    int64_t min_steps, eta;                      // of successive halving; min_steps 0: nothing is pruned
    TextList arms;
    SearchRun *runs; // in the order of the file
    int64_t count;
    int64_t duplicates, excluded; // points of the search that are no run of their own
} Search;

typedef struct {
    const char *path;       // of the sweep file
    char *const *overrides; // key=value for all runs; base=FILE takes the place of the file's `base`
    int count;
    const char *dir;        // NULL: what the file says, or sweeps/NAME
} SearchRequest;

// All errors of the file and of all its runs are collected, each with file:line:column and key; exit 2.
bool search_open(Search *search, const SearchRequest *request, Errors *errors);
void search_close(Search *search);
