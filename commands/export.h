// What the parts of the export share.
#pragma once

#include "commands/run.h"

typedef struct {
    const char *model, *out; // what was asked for, and the directory
    const char *weights;     // shown, x, y, z, ema
    DType dtype;             // of most of them
    const ModelSource *source;
    bool tokenizer;          // files of one go with it
} Export;

// README.md: what the model is, what it was trained on and how well it does, as far as the checkpoint tells, and the
// commands to load it.
void export_card(const Export *export, Text *out);
