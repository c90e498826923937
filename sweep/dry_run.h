// What `sweep --dry-run` prints: every run, longest first, and what they take together.
#pragma once

#include "sweep/forecast.h"

// `slots` runs at a time; `history` NULL: none of them was ever begun.
void dry_run_print(const Search *search, const Forecast *forecasts, int64_t slots, const SweepHistory *history);
