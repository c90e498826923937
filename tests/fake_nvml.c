// A library in the place of NVML, with made-up numbers that tell one GPU from another, by its bus; that on bus 4 tells
// neither temperature nor energy. Three of them are built: `full`; `old`, without what came later; `empty`, without
// anything of NVML. FAKE_NVML in the environment: "fails", it does not begin; from the second look on "hot", it
// throttles, or "hangs".
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef FAKE_NVML_empty
void nothing_of_nvml(void);
void nothing_of_nvml(void) {}
#else

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9, GPUS = 8 };
enum { SPARING = 4, SENSOR_GPU = 0, CLOCK_SM = 1, SOFTWARE_HEAT = 0x20, POWER_CAP = 0x4, IDLE = 0x1 };

typedef struct {
    unsigned bus;
    unsigned long long looks, energy; // mJ
} Device;
static Device devices[GPUS];

static int is(const char *what) { return getenv("FAKE_NVML") && strcmp(getenv("FAKE_NVML"), what) == 0; }

int nvmlInit_v2(void);
int nvmlInit_v2(void) { return is("fails") ? DRIVER_NOT_LOADED : SUCCESS; }

int nvmlShutdown(void);
int nvmlShutdown(void) { return SUCCESS; }

int nvmlDeviceGetHandleByPciBusId_v2(const char *address, Device **device);
int nvmlDeviceGetHandleByPciBusId_v2(const char *address, Device **device) {
    unsigned domain, bus, slot, function;
    if (sscanf(address, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4) return INVALID_ARGUMENT;
    if (domain != 0 || bus < 1 || bus > GPUS || slot != 0 || function != 0) return NOT_FOUND;
    *device = &devices[bus - 1];
    **device = (Device){.bus = bus, .energy = bus * 1000000000ull};
    return SUCCESS;
}

// The first number of every look.
int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts);
int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts) {
    device->looks++;
    while (is("hangs") && device->looks > 1) pause();
    *milliwatts = 100000 * device->bus + 500;
    return SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(Device *device, unsigned *milliwatts);
int nvmlDeviceGetEnforcedPowerLimit(Device *device, unsigned *milliwatts) {
    (void)device;
    *milliwatts = 700000;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(Device *device, int sensor, unsigned *celsius);
int nvmlDeviceGetTemperature(Device *device, int sensor, unsigned *celsius) {
    if (device->bus == SPARING) return NOT_SUPPORTED;
    *celsius = sensor == SENSOR_GPU ? 30 + device->bus : 999;
    return SUCCESS;
}

int nvmlDeviceGetClockInfo(Device *device, int clock, unsigned *megahertz);
int nvmlDeviceGetClockInfo(Device *device, int clock, unsigned *megahertz) {
    *megahertz = clock == CLOCK_SM ? 1500 - 10 * device->bus : 9999;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(Device *device, unsigned long long bytes[3]);
int nvmlDeviceGetMemoryInfo(Device *device, unsigned long long bytes[3]) { // total, free, used
    bytes[0] = 80ull << 30;
    bytes[2] = (unsigned long long)device->bus << 30;
    bytes[1] = bytes[0] - bytes[2];
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(Device *device, unsigned percent[2]);
int nvmlDeviceGetUtilizationRates(Device *device, unsigned percent[2]) { // kernels, memory
    percent[0] = 10 * device->bus;
    percent[1] = 99;
    return SUCCESS;
}

static int reasons(const Device *device, unsigned long long *bits) {
    *bits = is("hot") && device->looks > 1 ? SOFTWARE_HEAT | POWER_CAP : IDLE;
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(Device *device, unsigned long long *bits);
int nvmlDeviceGetCurrentClocksThrottleReasons(Device *device, unsigned long long *bits) {
    return reasons(device, bits);
}

#ifdef FAKE_NVML_full
const char *nvmlErrorString(int code);
const char *nvmlErrorString(int code) { return code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Another Error"; }

int nvmlSystemGetDriverVersion(char *version, unsigned size);
int nvmlSystemGetDriverVersion(char *version, unsigned size) {
    snprintf(version, size, "580.00.1");
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(Device *device, unsigned long long *millijoules);
int nvmlDeviceGetTotalEnergyConsumption(Device *device, unsigned long long *millijoules) {
    if (device->bus == SPARING) return NOT_SUPPORTED;
    *millijoules = device->energy += 2000 * device->bus;
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksEventReasons(Device *device, unsigned long long *bits);
int nvmlDeviceGetCurrentClocksEventReasons(Device *device, unsigned long long *bits) {
    return reasons(device, bits);
}
#endif
#endif
