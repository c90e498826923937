// Ranks under test: processes of the test program, each with a Comm that works over memory which they share, and by way
// of the backend's copies, so that it serves any. What a call may lose is lost: numbers that were reduced to another
// rank are NaN afterwards. Calls that differ between ranks, and a rank that ends or hangs, fail the test; none is left
// behind.
#pragma once

#include "comm/comm.h"

enum { TEST_RANKS = 8 };

// `call` runs on so many ranks at once, in children of this process; what it leaves in `result`, zeroed at first, is in
// results[rank] afterwards. A backend belongs to the children, which open it: this process must not have done so.
typedef void RanksCall(Comm *comm, const void *context, void *result);
void ranks_run(int ranks, const Kernels *kernels, RanksCall *call, const void *context, size_t result_bytes,
               void *const results[]);
