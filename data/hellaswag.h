// HellaSwag: contexts with four endings each, of which one is right. Read from the official JSONL or from llm.c's
// binary, and made into tokens as either of two evaluations has them (docs/evaluation.md):
//   llm.c                    ctx, and " " + ending, each encoded for itself
//   lm-evaluation-harness    cleaned texts with the activity's label in front, context and ending encoded as one
// A binary holds the tokens of llm.c's alone.
#pragma once

#include "data/tokenizer.h"

typedef enum { HELLASWAG_LLMC, HELLASWAG_LMEVAL, HELLASWAG_STYLES } HellaswagStyle;
enum { HELLASWAG_ENDINGS = 4 };

typedef struct {
    int64_t first, count; // in the list of ids
} TokenSpan;

// One ending behind its context: context.count > 0, ending.count > 0.
typedef struct {
    TokenSpan context, ending;
    double size; // of the ending, by which acc_norm divides: tokens (llm.c), characters (lm-evaluation-harness)
} HellaswagRow;

typedef struct {
    int64_t examples;
    uint8_t *labels;                      // (examples): the right ending
    HellaswagRow *rows[HELLASWAG_STYLES]; // (examples, HELLASWAG_ENDINGS); NULL: not in the file
    int64_t cut[HELLASWAG_STYLES];        // rows whose context lost its beginning
    TokenList ids;
} Hellaswag;

typedef struct {
    const char *path;           // llm.c's binary where it ends in .bin
    const Tokenizer *tokenizer; // NULL: only a binary can be read
    int64_t vocab;              // ids must be below
    int64_t length;             // that the model sees: of longer rows the context is cut from the left
    int64_t limit;              // examples to read, the first ones; 0: all
} HellaswagSetup;

// Messages name the line or the byte of what is wrong: 66 where there is no file, 65 else. To be closed even after a
// failure.
bool hellaswag_open(Hellaswag *set, const HellaswagSetup *setup, Errors *errors);
void hellaswag_close(Hellaswag *set);

// The ending with the smallest summed loss (acc), or with `by_size` the smallest one for its size (acc_norm): the first
// of several.
int hellaswag_choose(const HellaswagRow rows[HELLASWAG_ENDINGS], const double losses[HELLASWAG_ENDINGS], bool by_size);
