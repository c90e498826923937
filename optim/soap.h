// SOAP (Vyas et al. 2024): Adam in the eigenbasis of Shampoo's two factors. Eigenvectors and QR are LAPACK's, so it runs
// where device memory is host memory.
#pragma once

#include "kernels/kernels.h"
#include "optim/optim_options.h"

// Room that lives as long as the optimizer: of the wide dtype, for the largest matrix.
typedef struct {
    Tensor a, b; // (1, rows, columns)
} SoapRoom;

// The direction of the one segment of `update`, a matrix (rows, columns), to update->directions; its slots m, v, L0, Q0,
// L1, Q1 move. False where nothing is to move: in a skipped step, and in the first one that counts, which only builds the
// bases. A side longer than precondition_max has no L and Q (slot -1) and is not turned.
bool soap_direction(const Kernels *kernels, const Update *update, const HyperOptions *hyper, SoapRoom room);
