// What became of a run, by how its process ended.
#pragma once

#include "data/sweep_log.h"
#include "sweep/follow.h"
#include "sweep/forecast.h"

typedef struct {
    int status;       // as waitpid(2) tells
    bool asked;       // we sent it a signal to end
    int64_t until;    // the rung that it went for; 0: the end
    const Forecast *forecast;
    const Follow *at; // its metrics
    const char *log;  // what it printed, and
    int64_t log_from; // from which byte on
} Ending;

typedef struct {
    SweepStatus status;
    int exit_code, signal;
    Text reason; // short, one line; to be closed
} Verdict;

void verdict_find(const Ending *ending, Verdict *verdict);

// Whether the same may go well the next time: ended by a signal, 70, 71, 73.
bool verdict_may_pass(int exit_code, int signal_number);
