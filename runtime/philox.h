// Random numbers without state: each is a pure function of (seed, stream, step, index).
// Philox4x32-10 of Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC11).
#pragma once

#include <stdint.h>

// Streams: who asks. Never reused for two purposes.
enum { STREAM_INIT = 1, STREAM_SHUFFLE, STREAM_SAMPLE, STREAM_SPLIT, STREAM_BENCH, STREAM_TEST, STREAM_SWEEP };

typedef struct {
    uint32_t word[4];
} Philox;

Philox philox(const uint32_t counter[4], const uint32_t key[2]); // ten rounds

Philox philox_at(uint64_t seed, uint32_t stream, uint32_t step, uint64_t index);
uint64_t philox_u64(uint64_t seed, uint32_t stream, uint32_t step, uint64_t index);
double philox_uniform(uint64_t seed, uint32_t stream, uint32_t step, uint64_t index); // in [0, 1), 53 bits

// Normal numbers index .. index + count - 1 of a stream (Box-Muller in double, two per block), times `deviation`.
void philox_normal(float *out, int64_t count, double deviation, uint64_t seed, uint32_t stream, uint32_t step,
                   uint64_t index);
