// What each run of a sweep will take, planned as `check` plans it but for the ids in its shards, in another process:
// what ends one plan ends no other, and the sweep itself never opens a device.
#pragma once

#include "sweep/search.h"

typedef struct {
    bool good;     // the plan came through; else `problem` tells why not, with the exit code that `train` would have
    bool fits;     // into the memory that there is; false with good == false where that is the problem
    int exit_code;
    Text problem;
    double bytes, there; // of memory, for one rank, and what there is of it (0: not known)
    double seconds;      // of all its steps and evaluations; NaN: not known
    int64_t steps, step_tokens;
    int64_t threads;     // of the CPU, for one rank
    bool host;           // it runs on the CPU
} Forecast;

typedef struct {
    int64_t ranks;       // of each run
    int64_t threads;     // of each run, on the CPU; 0: as its configuration says
    const char *devices; // for CUDA_VISIBLE_DEVICES; NULL: as it is
} ForecastPlace;

// One for each run of the search, to be closed by forecast_close. False where not even a process could be had, and
// where planning was interrupted (130).
bool forecast_runs(const Search *search, const ForecastPlace *place, Forecast **out, Errors *errors);
void forecast_close(Forecast *forecasts, int64_t count);

// The numbers of the runs, longest first, in the order of the file where they are alike; to be freed by the caller.
int64_t *forecast_order(const Forecast *forecasts, int64_t count);
