// Training as the program does it, small enough for every backend: tiny networks of each architecture, batches made by
// hand (two micro-batches a step, one with several documents), any recipe.
#pragma once

#include "kernels/kernels.h"

enum { TRAINING_GPT2, TRAINING_LLAMA, TRAINING_QWEN3, TRAINING_RELU2, TRAINING_SHAPES };

typedef struct {
    const Kernels *kernels;
    DType compute; // F64 of the reference; the wide dtype follows
    int shape;
    const char *recipe; // assignments, as optim_settings_read takes them
    int64_t steps;
    int recompute;
    bool checked;  // every call against kernels.h; nothing is recorded then
    int64_t forget_after; // steps; then what was recorded is forgotten, and recorded again. 0: never
    Text *choices; // that the backend made: read before the run where there are some, written behind it; or NULL
} Training;

// Losses of all steps, and a hash of the final state of everything that training changes: equal bits, equal hash.
void training_run(const Training *training, double *losses, uint64_t *hash);
