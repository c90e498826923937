// Sampler: which window a global sequence number stands for. Pure functions, nothing to save.
#pragma once

#include <stdint.h>

typedef enum { SAMPLER_SHUFFLED, SAMPLER_SEQUENTIAL } SamplerKind; // values of data.sampler

// A keyed bijection on [0, size): four or more Feistel rounds of Philox over the next even power of two, with cycle
// walking. No table.
uint64_t permute(uint64_t index, uint64_t size, uint64_t seed, uint32_t epoch);

typedef struct {
    SamplerKind kind;
    uint64_t seed;
    int64_t windows;
} Sampler;

// The window of global sequence `sequence` (>= 0); each epoch is a fresh permutation of all windows.
int64_t sampler_window(const Sampler *sampler, int64_t sequence);
