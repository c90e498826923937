// NVML: what GPUs say of themselves, by a library of NVIDIA's driver that is opened while the program runs. A GPU is
// found by its address on the bus: NVML counts all of a machine, whichever of them a process may use.
#pragma once

#include "runtime/error.h"

typedef struct Nvml Nvml;

// NULL and a message (2) where the library is not there, lacks what everything needs, or the driver does not answer.
Nvml *nvml_open(Errors *errors);
void nvml_close(Nvml *nvml);
const char *nvml_driver(const Nvml *nvml); // its version, "" where it is not told

// The GPU at an address such as 0000:17:00.0; NULL and a message (2) where there is none that may be looked at.
typedef struct NvmlDevice NvmlDevice;
NvmlDevice *nvml_find(const Nvml *nvml, const char *address, Errors *errors);

typedef enum {
    NVML_POWER,       // W
    NVML_TEMPERATURE, // C
    NVML_CLOCK,       // MHz of the multiprocessors
    NVML_MEMORY,      // bytes in use, by whomever
    NVML_UTILIZATION, // share of the last moments in which a kernel ran, 0..1
    NVML_ENERGY,      // J since the driver was loaded
    NVML_POWER_LIMIT, // W
    NVML_NUMBERS
} NvmlNumber;

// Why the clocks are lower than they might be.
enum { THROTTLE_HEAT = 1, THROTTLE_POWER_BRAKE = 2, THROTTLE_HARDWARE = 4, THROTTLE_POWER_LIMIT = 8 };

// What this GPU, this driver or this user's rights do not tell is NaN, or no reason.
typedef struct {
    double numbers[NVML_NUMBERS];
    unsigned throttle;
} NvmlSample;
void nvml_sample(const Nvml *nvml, NvmlDevice *device, NvmlSample *sample);
