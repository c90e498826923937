// What a sweep at work writes down: lines of state.jsonl, and what is made of them.
#pragma once

#include "sweep/verdict.h"
#include "sweep/work.h"

bool work_line_plan(Work *work, Errors *errors); // where the newest plan says something else
void work_line_started(Work *work, const PoolRun *begun, Errors *errors);
void work_line_ended(Work *work, const PoolRun *ended, const Verdict *verdict, double seconds, Errors *errors);
void work_line_pruned(Work *work, int64_t run, Errors *errors);

// summary.csv, summary.json and report.html: at most now and then, where something came; `now`: in any case.
void work_sum_up(Work *work, bool now);
