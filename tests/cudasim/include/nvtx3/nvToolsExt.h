// The part of NVTX that the project uses; ranges.cpp defines it.
#pragma once

extern "C" {
int nvtxRangePushA(const char *message); // its depth, from 0
int nvtxRangePop(void);                  // the depth of the one that ended
}
