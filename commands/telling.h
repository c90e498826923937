// Telling: what a training run says of its steps, its samples and its end, on the console and in metrics.jsonl.
#pragma once

#include "commands/console.h"
#include "commands/steps.h"

void tell_step(Run *run, const StepResult *result, const Console *console); // of the step that was just counted
void tell_sample(Run *run); // all ranks come here; rank 0 makes it

// How the run ends. Those that return something return the exit code.
int tell_stopped(const Run *run);
int tell_diverged(const Run *run);
void tell_finished(const Run *run);
