#include "kernels/kernels.h"

#include <string.h>

void kernels_run(const Kernels *kernels, int64_t program, void (*queue)(void *context), void *context) {
    if (kernels->replay(program)) return;
    bool recording = kernels->record(program);
    queue(context);
    if (!recording) return;
    kernels->record_end();
    REQUIRE(kernels->replay(program), "program %ld was recorded and is not there", (long)program);
}

const Kernels *kernels_find(const char *device, Errors *errors) {
#ifdef THALWEG_CUDA
    if (strcmp(device, "cuda") == 0) return &cuda_kernels;
    if (strcmp(device, "auto") == 0 && cuda_is_there()) return &cuda_kernels; // if it is of no use, open says why
#endif
    if (strcmp(device, "auto") == 0 || strcmp(device, "cpu") == 0) return &cpu_kernels;
    if (strcmp(device, "cuda") == 0)
        errors_add(errors, EXIT_USAGE, "device: this build has no CUDA backend; build one with `make CUDA=1`, or use "
                   "device=cpu");
    else
        errors_add(errors, EXIT_USAGE, "device: \"%s\" is not one of auto, cpu, cuda", device);
    return NULL;
}
