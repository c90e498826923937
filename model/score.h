// Scores: how a model likes the ends of sequences, many in one forward pass. Rows are padded behind their end, which no
// earlier token sees.
#pragma once

#include "model/gpt.h"

typedef struct {
    const int32_t *context, *ending; // ids; at least one of each
    int64_t context_count, ending_count;
    int64_t number; // the caller's
    double loss;    // nats, summed over the ending
} ScoreRow;

typedef struct {
    Gpt *gpt; // opened, for any batch and length; together a row's counts are at most its length + 1
    int32_t *tokens, *targets, *positions;
    float *weights, *losses;
    void *wide; // the device's losses
} Scorer;

void score_open(Scorer *scorer, Gpt *gpt);
void score_close(Scorer *scorer);

void score_sort(ScoreRow *rows, int64_t count); // longest first: rows of a pass are alike then
// Sets the loss of the first rows, as many as fit in one forward pass (returned); `count` > 0.
int64_t score_run(Scorer *scorer, ScoreRow *rows, int64_t count);
