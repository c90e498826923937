// The backend's table.
#include "kernels/kernels.h"

#define K(result, operation, parameters) result cuda_##operation parameters;
KERNELS(K)
#undef K

const Kernels cuda_kernels = {
    .name = "cuda",
#define K(result, operation, parameters) .operation = cuda_##operation,
    KERNELS(K)
#undef K
};
