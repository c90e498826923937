// Evaluation during training: when it is due, and what becomes of its result.
#pragma once

#include "commands/run.h"

// The last step is always evaluated, unless none is.
bool evaluation_due(const Run *run, int64_t step);
bool evaluation_pending(const Run *run); // at the present step, where that was not done yet
int64_t evaluations_left(const Run *run, int64_t end); // from the present step on to step `end`

// Evaluates the present step: metrics, a line on the console, the best step so far. A stop in the middle leaves no
// trace, nor does damaged data, whose exit code is returned: a resume evaluates again.
int evaluation_run(Run *run);
