// Successive halving, asynchronously (ASHA): runs pause at rungs, the best 1/eta of those that reached a rung go on,
// top rung first, and the rest is pruned when no more can arrive. All of it follows from the record alone, so that
// every process on a sweep decides alike, today and after a crash.
#pragma once

#include "data/sweep_log.h"

typedef struct {
    int64_t min_steps, eta; // rungs are at min_steps eta^k; min_steps 0: there are none
    bool maximise;
} Halving;

typedef struct {
    const SweepRecord *record;
    int64_t steps; // of the whole run
    int64_t every; // rungs are multiples of this, rounded up: its eval.every
} HalvingRun;

typedef struct {
    bool go;       // it may be started, or go on,
    int64_t until; // to this step; 0: to its end
    bool prune;    // it is paused, and others were better
    int64_t rung;  // rungs that are behind it
} HalvingMove;

// The steps of a run's rungs, all below its end; returns how many.
enum { HALVING_RUNGS = 64 };
int64_t halving_rungs(const Halving *halving, const HalvingRun *run, int64_t steps[HALVING_RUNGS]);

// What may be done with each run now; neither go nor prune: it has to wait, or has a result.
void halving_moves(const Halving *halving, const HalvingRun *runs, int64_t count, HalvingMove *moves);
