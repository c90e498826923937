#include "kernels/kernels.h"

#include <string.h>

const Kernels *kernels_find(const char *device, Errors *errors) {
    if (strcmp(device, "auto") == 0 || strcmp(device, "cpu") == 0) return &cpu_kernels;
    if (strcmp(device, "cuda") == 0)
        errors_add(errors, EXIT_USAGE, "device: this build has no CUDA backend; use device=cpu");
    else
        errors_add(errors, EXIT_USAGE, "device: \"%s\" is not one of auto, cpu, cuda", device);
    return NULL;
}
