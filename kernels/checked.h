// A backend around a backend: the same table, but every call's tensors are first held against the contract of
// kernels.h, and every call is counted and timed. Tests run every operation in it, and `bench` reads its times. A
// broken contract ends the program with 70, naming operation and tensor.
#pragma once

#include "kernels/kernels.h"

// The wrapped table. There is one wrapper in the program: a later call replaces `inner`; the tallies go on.
const Kernels *checked_kernels(const Kernels *inner);

// Whether every float that an operation writes must be finite; at first it need not. Reads all outputs back, and so
// finds the operation that made the first NaN.
void checked_want_finite(bool wanted);

// Calls and seconds of each operation so far, slowest first. Waits for the device after each call to time it.
void checked_report(Text *out);
