#include "runtime/machine.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

void machine_processor(char out[MACHINE_NAME]) {
    char line[512];
    snprintf(out, MACHINE_NAME, "unknown");
    FILE *info = fopen("/proc/cpuinfo", "r");
    while (info && fgets(line, sizeof line, info))
        if (sscanf(line, "model name : %127[^\n]", out) == 1) break;
    if (info) fclose(info);
}

int64_t machine_threads(void) {
    cpu_set_t allowed;
    return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : sysconf(_SC_NPROCESSORS_ONLN);
}
