#include "runtime/nvml.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>

#include "runtime/memory.h"

// ---- the library ----

enum { SUCCESS = 0, TEMPERATURE_OF_GPU = 0, CLOCK_OF_MULTIPROCESSORS = 1, VERSION_SIZE = 80 };

typedef struct {
    unsigned long long total, free, used; // bytes
} Memory;
typedef struct {
    unsigned gpu, memory; // percent
} Utilization;

// Functions by the library's names, and whether nothing goes without them.
#define CALLS(C)                                                                                  \
    C(true, int, nvmlInit_v2, (void))                                                             \
    C(true, int, nvmlShutdown, (void))                                                            \
    C(true, int, nvmlDeviceGetHandleByPciBusId_v2, (const char *, NvmlDevice **))                 \
    C(false, const char *, nvmlErrorString, (int))                                                \
    C(false, int, nvmlSystemGetDriverVersion, (char *, unsigned))                                 \
    C(false, int, nvmlDeviceGetPowerUsage, (NvmlDevice *, unsigned *))            /* mW */        \
    C(false, int, nvmlDeviceGetEnforcedPowerLimit, (NvmlDevice *, unsigned *))    /* mW */        \
    C(false, int, nvmlDeviceGetTotalEnergyConsumption, (NvmlDevice *, unsigned long long *))      \
    C(false, int, nvmlDeviceGetTemperature, (NvmlDevice *, int, unsigned *))                      \
    C(false, int, nvmlDeviceGetClockInfo, (NvmlDevice *, int, unsigned *))                        \
    C(false, int, nvmlDeviceGetMemoryInfo, (NvmlDevice *, Memory *))                              \
    C(false, int, nvmlDeviceGetUtilizationRates, (NvmlDevice *, Utilization *))                   \
    C(false, int, nvmlDeviceGetCurrentClocksEventReasons, (NvmlDevice *, unsigned long long *))   \
    C(false, int, nvmlDeviceGetCurrentClocksThrottleReasons, (NvmlDevice *, unsigned long long *))

struct Nvml {
    void *library;
#define C(needed, result, name, parameters) result (*name) parameters;
    CALLS(C)
#undef C
    char driver[VERSION_SIZE];
};

// Whether the library has the function and it gave something.
#define GIVES(nvml, name, ...) ((nvml)->name && (nvml)->name(__VA_ARGS__) == SUCCESS)

static bool find_calls(Nvml *nvml, Errors *errors) {
#define C(needed, result, name, parameters)                                                            \
    nvml->name = (result(*) parameters)dlsym(nvml->library, #name);                                    \
    if (needed && !nvml->name)                                                                         \
        return errors_add(errors, EXIT_USAGE, "libnvidia-ml.so.1 has no %s; look whether it belongs "  \
                          "to the driver that runs", #name);
    CALLS(C)
#undef C
    return true;
}

static const char *reason(const Nvml *nvml, int code) {
    return nvml->nvmlErrorString ? nvml->nvmlErrorString(code) : "a failure";
}

static bool begin(Nvml *nvml, Errors *errors) {
    nvml->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!nvml->library)
        return errors_add(errors, EXIT_USAGE, "libnvidia-ml.so.1 cannot be loaded; install that part of NVIDIA's "
                          "driver, or start the container with NVIDIA_DRIVER_CAPABILITIES=compute,utility");
    if (!find_calls(nvml, errors)) return false;
    int code = nvml->nvmlInit_v2();
    return code == SUCCESS || errors_add(errors, EXIT_USAGE, "NVML does not begin: %s (%d); look at nvidia-smi",
                                         reason(nvml, code), code);
}

Nvml *nvml_open(Errors *errors) {
    Nvml *nvml = memory_take(1, sizeof *nvml, "NVML");
    if (begin(nvml, errors)) {
        if (!GIVES(nvml, nvmlSystemGetDriverVersion, nvml->driver, VERSION_SIZE)) *nvml->driver = 0;
        return nvml;
    }
    if (nvml->library) dlclose(nvml->library);
    free(nvml);
    return NULL;
}

void nvml_close(Nvml *nvml) {
    nvml->nvmlShutdown();
    dlclose(nvml->library);
    free(nvml);
}

const char *nvml_driver(const Nvml *nvml) { return nvml->driver; }

// ---- a GPU ----

NvmlDevice *nvml_find(const Nvml *nvml, const char *address, Errors *errors) {
    NvmlDevice *device = NULL;
    int code = nvml->nvmlDeviceGetHandleByPciBusId_v2(address, &device);
    if (code == SUCCESS) return device;
    errors_add(errors, EXIT_USAGE, "NVML does not show the GPU at %s: %s (%d); look at nvidia-smi", address,
               reason(nvml, code), code);
    return NULL;
}

// By the library's bits. The hardware's own one comes with those that say more.
static unsigned throttle_of(unsigned long long bits) {
    enum { POWER_LIMIT = 0x4, HARDWARE = 0x8, SOFTWARE_HEAT = 0x20, HARDWARE_HEAT = 0x40, POWER_BRAKE = 0x80 };
    unsigned throttle = 0;
    if (bits & (SOFTWARE_HEAT | HARDWARE_HEAT)) throttle |= THROTTLE_HEAT;
    if (bits & POWER_BRAKE) throttle |= THROTTLE_POWER_BRAKE;
    if (bits & HARDWARE && !(bits & (HARDWARE_HEAT | POWER_BRAKE))) throttle |= THROTTLE_HARDWARE;
    if (bits & POWER_LIMIT) throttle |= THROTTLE_POWER_LIMIT;
    return throttle;
}

void nvml_sample(const Nvml *nvml, NvmlDevice *device, NvmlSample *sample) {
    double *n = sample->numbers;
    unsigned number;
    unsigned long long large;
    Memory memory;
    Utilization utilization;
    for (int i = 0; i < NVML_NUMBERS; i++) n[i] = NAN;
    if (GIVES(nvml, nvmlDeviceGetPowerUsage, device, &number)) n[NVML_POWER] = 1e-3 * number;
    if (GIVES(nvml, nvmlDeviceGetEnforcedPowerLimit, device, &number)) n[NVML_POWER_LIMIT] = 1e-3 * number;
    if (GIVES(nvml, nvmlDeviceGetTotalEnergyConsumption, device, &large)) n[NVML_ENERGY] = 1e-3 * (double)large;
    if (GIVES(nvml, nvmlDeviceGetTemperature, device, TEMPERATURE_OF_GPU, &number)) n[NVML_TEMPERATURE] = number;
    if (GIVES(nvml, nvmlDeviceGetClockInfo, device, CLOCK_OF_MULTIPROCESSORS, &number)) n[NVML_CLOCK] = number;
    if (GIVES(nvml, nvmlDeviceGetMemoryInfo, device, &memory)) n[NVML_MEMORY] = (double)memory.used;
    if (GIVES(nvml, nvmlDeviceGetUtilizationRates, device, &utilization))
        n[NVML_UTILIZATION] = 1e-2 * utilization.gpu;
    bool told = GIVES(nvml, nvmlDeviceGetCurrentClocksEventReasons, device, &large) ||
                GIVES(nvml, nvmlDeviceGetCurrentClocksThrottleReasons, device, &large); // its older name
    sample->throttle = told ? throttle_of(large) : 0;
}
