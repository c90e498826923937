#include "runtime/philox.h"

#include <math.h>
#include <omp.h>

enum { ROUNDS = 10, ALONE = 1 << 15 }; // numbers that are no work for a team
static const uint32_t MULTIPLIER[2] = {0xD2511F53u, 0xCD9E8D57u};
static const uint32_t WEYL[2] = {0x9E3779B9u, 0xBB67AE85u}; // golden ratio, sqrt(3) - 1

Philox philox(const uint32_t counter[4], const uint32_t key[2]) {
    Philox c = {{counter[0], counter[1], counter[2], counter[3]}};
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t a = (uint64_t)MULTIPLIER[0] * c.word[0];
        uint64_t b = (uint64_t)MULTIPLIER[1] * c.word[2];
        c = (Philox){{(uint32_t)(b >> 32) ^ c.word[1] ^ k0, (uint32_t)b, (uint32_t)(a >> 32) ^ c.word[3] ^ k1,
                      (uint32_t)a}};
        k0 += WEYL[0];
        k1 += WEYL[1];
    }
    return c;
}

Philox philox_at(uint64_t seed, uint32_t stream, uint32_t step, uint64_t index) {
    uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), step, stream};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    return philox(counter, key);
}

uint64_t philox_u64(uint64_t seed, uint32_t stream, uint32_t step, uint64_t index) {
    Philox r = philox_at(seed, stream, step, index);
    return (uint64_t)r.word[1] << 32 | r.word[0];
}

static double unit(uint32_t high, uint32_t low) { // 53 bits, in [0, 1)
    return (double)(((uint64_t)high << 32 | low) >> 11) * 0x1p-53;
}

double philox_uniform(uint64_t seed, uint32_t stream, uint32_t step, uint64_t index) {
    Philox r = philox_at(seed, stream, step, index);
    return unit(r.word[1], r.word[0]);
}

// Normal numbers 2 block and 2 block + 1.
static void normal_pair(double pair[2], uint64_t seed, uint32_t stream, uint32_t step, uint64_t block) {
    const double two_pi = 6.283185307179586476925286766559;
    Philox r = philox_at(seed, stream, step, block);
    double radius = sqrt(-2 * log(1 - unit(r.word[1], r.word[0])));
    double angle = two_pi * unit(r.word[3], r.word[2]);
    pair[0] = radius * cos(angle);
    pair[1] = radius * sin(angle);
}

void philox_normal(float *out, int64_t count, double deviation, uint64_t seed, uint32_t stream, uint32_t step,
                   uint64_t index) {
    uint64_t first = index / 2, last = (index + (uint64_t)count + 1) / 2;
// All processors, whatever number the library of matrix products goes by: it sets OpenMP's default.
#pragma omp parallel for schedule(static) num_threads(omp_get_num_procs()) if (count > ALONE)
    for (uint64_t block = first; block < last; block++) {
        double pair[2];
        normal_pair(pair, seed, stream, step, block);
        for (uint64_t half = 0; half < 2; half++) {
            uint64_t at = 2 * block + half;
            if (at >= index && at < index + (uint64_t)count) out[at - index] = (float)(deviation * pair[half]);
        }
    }
}
