// The machine that this process runs on.
#pragma once

#include <stdint.h>

enum { MACHINE_NAME = 128 };
void machine_processor(char out[MACHINE_NAME]); // what its maker calls it; "unknown"
int64_t machine_threads(void); // that this process may run on
