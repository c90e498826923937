// Steps of training: queued one by one, waited for, counted.
#pragma once

#include "commands/run.h"

// The next step may be queued before the results of the last are there.
typedef struct {
    int64_t queued;          // steps, of which state.step are counted
    double lr[STATUS_SLOTS]; // of the queued ones
    double begun;            // when the device began the oldest of them
} Pipeline;

typedef struct {
    double status[STATUS_COUNT];
    double loss, grad_norm, lr, seconds;
    Skip skip;
} StepResult;

// The next step to be queued is the one behind state.step: its data and its weights are brought back. Nothing may be on
// its way.
void steps_seek(Run *run, Pipeline *pipeline);

// False and a message where the data is damaged: then nothing of this step moves anything. Of several ranks all end at
// once: the others cannot go on without this one, nor save.
bool steps_queue(Run *run, Pipeline *pipeline, Errors *errors);

// The gradient of a step alone, which is all that steps_queue does before run_end_step.
bool steps_gradient(Run *run, StepScalars *scalars, int64_t step, Errors *errors);

// Waits for the oldest step. Where it was skipped those behind it were held by the device and are forgotten: once it is
// counted, or is to be done again, comes steps_seek.
StepResult steps_wait(Run *run, Pipeline *pipeline);
void steps_count(Run *run, const StepResult *result);

// One line to metrics.jsonl and the event file; the text is closed. What fails is told.
void steps_write_metrics(Run *run, Text *line);
