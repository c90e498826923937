// Sampler: a Feistel network maps [0, 2^(2h)) onto itself whatever its round function is; indices that land outside
// [0, size) walk on along their cycle until they are inside. The domain is less than four times the size, so a walk
// takes four steps on average at most.
#include "data/sampler.h"

#include "runtime/error.h"
#include "runtime/philox.h"

enum { ROUNDS = 8 }; // small domains need more than the four that suffice for large ones

static uint64_t feistel(uint64_t index, int half_bits, uint64_t seed, uint32_t epoch) {
    uint64_t mask = (UINT64_C(1) << half_bits) - 1;
    uint64_t left = index >> half_bits, right = index & mask;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint64_t key = philox_u64(seed, STREAM_SHUFFLE, epoch, round << 32 | right);
        uint64_t mixed = left ^ (key & mask);
        left = right;
        right = mixed;
    }
    return left << half_bits | right;
}

uint64_t permute(uint64_t index, uint64_t size, uint64_t seed, uint32_t epoch) {
    REQUIRE(index < size && size <= UINT64_C(1) << 62, "index %lu of %lu", index, size);
    int half_bits = 1;
    while (UINT64_C(1) << 2 * half_bits < size) half_bits++;
    do index = feistel(index, half_bits, seed, epoch);
    while (index >= size);
    return index;
}

int64_t sampler_window(const Sampler *sampler, int64_t sequence) {
    REQUIRE(sequence >= 0 && sampler->windows > 0, "sequence %ld of %ld windows", sequence, sampler->windows);
    int64_t epoch = sequence / sampler->windows, index = sequence % sampler->windows;
    if (sampler->kind == SAMPLER_SEQUENTIAL) return index;
    return (int64_t)permute((uint64_t)index, (uint64_t)sampler->windows, sampler->seed, (uint32_t)epoch);
}
