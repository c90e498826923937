// What a person sees of a sweep at work, on stderr: one table on a terminal, drawn again in place; else plain lines.
#pragma once

#include "sweep/verdict.h"
#include "sweep/work.h"

void board_begun(const Work *work, const PoolRun *begun);
void board_ended(const Work *work, int64_t run, const Verdict *verdict);
void board_tick(Work *work); // called often: draws now and then
void board_wipe(void);       // before anything else is printed
void board_end(Work *work);  // the table of all runs, on stdout
