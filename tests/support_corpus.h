// Corpora for tests: input files below a folder of the test program, and datasets made of them.
#pragma once

#include "data/corpus.h"

// A file below the folder, its folders made; `path` gets where it is. `folder` is the same for all of a program.
const char *corpus_folder(const char *name);
void corpus_write(char path[4096], const char *name, const void *bytes, size_t size);

typedef struct {
    char out[4096];
    CorpusCounts counts;
    Errors errors;
    bool good;
} Outcome;

// What is prepared below the folder, and how.
typedef struct {
    const char *input, *out;
    double val_fraction;
    int64_t shard_tokens;
    const char *field; // NULL: text
    int threads;       // 0: 2
} Preparation;
// Closes the tokenizer.
Outcome corpus_run(Tokenizer *tokenizer, const Preparation *preparation);
