// Batch: one micro-batch of one rank, on the host (loader) or on the device (model). B sequences of T tokens.
#pragma once

#include "runtime/tensor.h"

typedef struct {
    Tensor tokens;         // (B, T) i32
    Tensor targets;        // (B, T) i32; < 0: no loss
    Tensor positions;      // (B, T) i32, 0 at the start of a sequence
    Tensor first_visible;  // (B, T) i32, first position that a query may see; absent: everything before it
    Tensor weights;        // (B, T) f32, weight of each token's loss; 0 in filled-up sequences
    Tensor sequence;       // (B) i64, global sequence number; -1 in filled-up sequences
    Tensor source;         // (B) i32, index of the data source
    Tensor token_order;    // (B T) i32, indices of `tokens` sorted by token, stable
    Tensor position_order; // (B T) i32, indices of `positions` sorted by position, stable
} Batch;

#define BATCH_FIELDS(F)                                                                                   \
    F(tokens) F(targets) F(positions) F(first_visible) F(weights) F(sequence) F(source) F(token_order)    \
    F(position_order)

// `order` (N) becomes the stable counting sort of `ids` (N, each in [0, bound)); `counts` has room for bound + 1.
void batch_sort(int32_t *order, const int32_t *ids, int64_t n, int64_t bound, int32_t *counts);
