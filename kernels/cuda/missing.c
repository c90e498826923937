// Scaffolding: operations that are not there yet.
#include "kernels/kernels.h"
#define K(result, operation, parameters) __attribute__((weak)) result cuda_##operation parameters { \
    DIE(EXIT_INTERNAL, "cuda_" #operation " is missing"); }
#pragma GCC diagnostic ignored "-Wunused-parameter"
KERNELS(K)
#undef K
