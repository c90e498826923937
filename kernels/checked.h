// A backend around a backend: the same table, but every call's tensors are first held against the contract of
// kernels.h, and every call is counted and timed. Tests run every operation in it, and `bench` reads its tallies. A
// broken contract ends the program with 70, naming operation and tensor.
#pragma once

#include "kernels/kernels.h"

// The wrapped table. There is one wrapper in the program: a later call replaces `inner`; the tallies go on.
const Kernels *checked_kernels(const Kernels *inner);

// Whether every float that an operation writes must be finite; at first it need not. Reads all outputs back, and so
// finds the operation that made the first NaN.
void checked_want_finite(bool wanted);

// What an operation took since the last look, what it had to compute, and to read and to write at least. The device is
// waited for after each call.
typedef struct {
    const char *operation;
    int64_t calls;
    double seconds, flops, bytes;
} Tally;
enum { CHECKED_TALLIES = 80 };
int checked_take_tallies(Tally out[CHECKED_TALLIES]); // those with calls, slowest first; all begin anew
