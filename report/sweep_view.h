// A sweep as its page sees it: every run with what its directory tells, arms as colours, the best of each.
#pragma once

#include "data/sweep_log.h"
#include "report/curve.h"
#include "report/runs_section.h"

typedef struct {
    SweepHistory history;
    const char *dir;
    RunFacts *facts;   // by record
    TextList arms;     // in the order of their first runs; without arms, optimizers
    int64_t *arm;      // by record
    SweepGroup *groups;
    int64_t group_count;
    int64_t *group;    // by record
    int64_t *best;     // by arm: the record that is best among those of its best group; -1: none
} SweepView;

bool sweep_view_open(SweepView *view, const char *dir, Errors *errors);
void sweep_view_close(SweepView *view);

const char *sweep_view_metric(const SweepView *view); // "Validation loss", or the metric's key
double sweep_view_result(const SweepView *view, int64_t record); // NaN: none
// What a run has for a key: as a setting of the sweep, or else in its configuration. "": it has none.
const char *sweep_view_setting(const SweepView *view, int64_t record, const char *key);
double sweep_view_number(const SweepView *view, int64_t record, const char *key); // NaN: it is none
void sweep_view_describe(const SweepView *view, int64_t record, Text *out); // id, arm, settings, result
bool sweep_view_is_number(const SweepView *view, const char *key); // wherever it has a value
bool sweep_view_varies(const SweepView *view, const char *key); // as a number, in more than one value

// The best metric that any run of an arm had reached by each count of tokens. Runs whose schedule ends with them count
// where they end. Gives the number of runs that count, and the tokens of all that were tried.
typedef struct {
    Curve curve;
    int64_t runs, at_end; // that count; of them, at their end alone
    double tokens;        // of all runs of the arm
} Frontier;
void sweep_view_frontier(const SweepView *view, int64_t arm, Frontier *out); // curve_close(&out->curve)

void sweep_section(Page *page, const SweepView *view); // sweep_section.c
void sweep_figures(Page *page, const SweepView *view); // sweep_figures.c: a part of it
