// Ranges for Nsight Systems, by the toolkit's headers alone: calls do nothing unless a profiler has loaded its own.
#include "kernels/cuda/cuda.cuh"

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
void cuda_range_begin(const char *name) { nvtxRangePushA(name); }
void cuda_range_end(void) { nvtxRangePop(); }
#else
void cuda_range_begin(const char *name) { (void)name; }
void cuda_range_end(void) {}
#endif
