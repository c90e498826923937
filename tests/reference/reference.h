// The reference backend: every kernel as the plainest loop over doubles. It is the truth that other backends are
// compared with; nothing in it is fast, and it runs on one thread. Any float dtype goes in; results are rounded once,
// to nearest even, where they are stored.
#pragma once

#include "kernels/kernels.h"

extern const Kernels reference_kernels;
