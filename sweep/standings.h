// A sweep in words: what sets a run apart, and the table of all runs.
#pragma once

#include "data/sweep_log.h"

void standings_settings(const SweepRecord *record, Text *out); // "muon  optim.lr=0.01 run.seed=2", for a terminal
void standings_counts(const SweepHistory *history, Text *out); // "3 finished, 1 diverged, 2 running": of those planned

// All runs, best first, each with its status and reason, and the groups over seeds, where there are such.
void standings_print(const SweepHistory *history, Text *out);
