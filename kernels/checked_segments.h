// What an Update's segments must be. They lie in the host's memory here.
#pragma once

#include "kernels/kernels.h"

// Sorted, apart, within the flat buffer; within z, where there is one; slots of their directions and gaps within the
// state. Of empty ones only the place counts.
void require_segments(const char *operation, const Update *update, Tensor flat);

// What `update` needs besides: directions, squares, and weights of their own where there is a gap.
void require_directions(const char *operation, const Update *update);

// One of them for each segment.
void require_count(const char *operation, const Update *update, Tensor tensor, const char *name);

// A slot with one number for each element of a matrix, or for each of its rows.
typedef struct {
    int slot;
    bool by_row;
} MatrixSlot;

// One matrix for each segment, and the slot that moves with it.
void require_matrices(const char *operation, const Update *update, Tensor matrices, MatrixSlot slot);

// What `update` reads and writes at least.
double update_bytes(const Update *update);
