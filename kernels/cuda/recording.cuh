// Recorded programs, as CUDA graphs. The first time that a program is asked for, its calls run as they come: that is
// when the products are measured. The second time they are recorded.
#pragma once

#include "kernels/cuda/cuda.cuh"

// Whether the first run of a program is under way, and choices may be made by measuring.
bool cuda_measuring(void);
// Something waits or begins: that run is over.
void cuda_end_measuring(void);
bool cuda_recording(void);

// Forgets what was recorded, because memory that it may use is going away.
void recording_forget(void);

// THALWEG_GRAPHS: 0 runs calls as they come, 1 records.
bool recording_configure(Errors *errors);
