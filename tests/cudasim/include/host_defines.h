// The keywords of CUDA C++ for g++.
#pragma once

#define CUDASIM 1 // what kernel sources ask for

#define __host__
#define __device__
#define __global__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)

// The bare keyword says nothing to the scheduler, which fills shared memory with poison, counts it and guards its ends.
#define __shared__                                                                                 \
    static_assert(false, "declare shared memory with SHARED(type, name, dims) or DYNAMIC_SHARED"); \
    static
