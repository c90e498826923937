// SOAP (Vyas et al. 2024): Adam in the eigenbases of Shampoo's two factors. Eigenvectors and QR are LAPACK's, so it
// runs where device memory is host memory.
#pragma once

#include "kernels/kernels.h"
#include "optim/optim_options.h"
#include "runtime/arena.h"

// Room for one matrix, which lives as long as the optimizer.
typedef struct {
    Tensor direction, turned, half_turned; // (1, rows, columns) wide
    Tensor square[3];                      // (1, n, n) f64, n the longest side that is turned; or none
} SoapRoom;

void soap_place(SoapRoom *room, Arena *arena, DType wide, int64_t rows, int64_t columns, const HyperOptions *hyper);

// The direction of the one segment of `update`, a matrix (rows, columns), to update->directions, which is
// room->direction; its slots m, v, L0, Q0, L1, Q1 move. False where nothing is to move: in a skipped step, and in the
// first one that counts, which only builds the bases. A side longer than precondition_max has no L and Q (slot -1) and
// is not turned.
bool soap_direction(const Kernels *kernels, const Update *update, const HyperOptions *hyper, const SoapRoom *room);
