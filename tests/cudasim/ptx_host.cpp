// Host emulation of the PTX wrappers. A warp-wide instruction is a collective: every lane brings its
// operands, the last one to arrive computes for all. Fragment layouts follow the PTX manual.
#include "tests/cudasim/cudasim_internal.h"
#include <cudasim_ptx.h>

#if CUDASIM_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace cudasim {
namespace {

constexpr unsigned EVERY_LANE = 0xffffffffu;
constexpr size_t ROW_BYTES = 16;

bool aligned16(const void *p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// .aligned instructions need the whole warp.
template <class Lane> Lane &lane_at(void *const *lanes, int i) {
    if (!lanes[i]) fault("an aligned warp instruction runs without lane %d, which has exited", i);
    return *static_cast<Lane *>(lanes[i]);
}

// ---- ldmatrix

struct MatrixLane {
    uint32_t *registers;
    const void *row;
};

template <int MATRICES, bool TRANSPOSED> void combine_load(void *const *lanes, unsigned) {
    for (int m = 0; m < MATRICES; m++) {
        uint16_t matrix[8][8];
        for (int r = 0; r < 8; r++) memcpy(matrix[r], lane_at<MatrixLane>(lanes, m * 8 + r).row, ROW_BYTES);
        for (int i = 0; i < 32; i++) {
            const int major = i / 4, minor = i % 4 * 2;
            const uint32_t low = TRANSPOSED ? matrix[minor][major] : matrix[major][minor];
            const uint32_t high = TRANSPOSED ? matrix[minor + 1][major] : matrix[major][minor + 1];
            lane_at<MatrixLane>(lanes, i).registers[m] = low | high << 16;
        }
    }
}

// ---- mma.sync

struct MultiplyLane {
    float *d;
    const uint32_t *a;
    uint32_t b[2];
};

float low_bf16(uint32_t pair) { return bit_cast<float>(pair << 16); }
float high_bf16(uint32_t pair) { return bit_cast<float>(pair & 0xffff0000u); }
float tf32(uint32_t bits) { return bit_cast<float>(bits & 0xffffe000u); }

// d (16x8) += a (16xK) * b (Kx8), sums in fp32 in the order of k. Real tensor cores add in groups
// with less careful rounding, so equality of bits with a GPU is not to be expected here.
template <int K> void multiply_into_lanes(void *const *lanes, const float (&a)[16][K], const float (&b)[K][8]) {
    for (int row = 0; row < 16; row++) {
        float sum[8];
        for (int n = 0; n < 8; n++) sum[n] = lane_at<MultiplyLane>(lanes, row % 8 * 4 + n / 2).d[row / 8 * 2 + n % 2];
        for (int k = 0; k < K; k++)
            for (int n = 0; n < 8; n++) sum[n] += a[row][k] * b[k][n];
        for (int n = 0; n < 8; n++) lane_at<MultiplyLane>(lanes, row % 8 * 4 + n / 2).d[row / 8 * 2 + n % 2] = sum[n];
    }
}

void combine_bf16(void *const *lanes, unsigned) {
    float a[16][16], b[16][8];
    for (int i = 0; i < 32; i++) {
        const MultiplyLane &lane = lane_at<MultiplyLane>(lanes, i);
        const int g = i / 4, t = i % 4 * 2;
        for (int r = 0; r < 4; r++) {
            a[g + r % 2 * 8][t + r / 2 * 8] = low_bf16(lane.a[r]);
            a[g + r % 2 * 8][t + r / 2 * 8 + 1] = high_bf16(lane.a[r]);
        }
        for (int r = 0; r < 2; r++) {
            b[t + r * 8][g] = low_bf16(lane.b[r]);
            b[t + r * 8 + 1][g] = high_bf16(lane.b[r]);
        }
    }
    multiply_into_lanes(lanes, a, b);
}

void combine_tf32(void *const *lanes, unsigned) {
    float a[16][8], b[8][8];
    for (int i = 0; i < 32; i++) {
        const MultiplyLane &lane = lane_at<MultiplyLane>(lanes, i);
        const int g = i / 4, t = i % 4;
        for (int r = 0; r < 4; r++) a[g + r % 2 * 8][t + r / 2 * 4] = tf32(lane.a[r]);
        for (int r = 0; r < 2; r++) b[t + r * 4][g] = tf32(lane.b[r]);
    }
    multiply_into_lanes(lanes, a, b);
}

} // namespace

void load_matrices(uint32_t *registers, int matrices, bool transposed, const void *row, Site site) {
    static constexpr Combine COMBINE[2][3] = {{combine_load<1, false>, combine_load<2, false>, combine_load<4, false>},
                                              {combine_load<1, true>, combine_load<2, true>, combine_load<4, true>}};
    const bool gives_row = static_cast<int>(current->lane) < matrices * 8;
    if (gives_row && !aligned16(row))
        fault("%s (%s:%d): row address %p is not 16-byte aligned", site.operation, site.file, site.line, row);
    if (gives_row && !is_shared(row, ROW_BYTES))
        fault("%s (%s:%d): row address %p is not shared memory", site.operation, site.file, site.line, row);
    if (RACE_CHECK && gives_row) note_access(row, ROW_BYTES, Use::read, __builtin_return_address(0));
    MatrixLane lane{registers, row};
    warp_collective(EVERY_LANE, &lane, COMBINE[transposed][matrices / 2], site);
}

void multiply_bf16(float *d, const uint32_t *a, uint32_t b0, uint32_t b1, Site site) {
    MultiplyLane lane{d, a, {b0, b1}};
    warp_collective(EVERY_LANE, &lane, combine_bf16, site);
}

void multiply_tf32(float *d, const uint32_t *a, uint32_t b0, uint32_t b1, Site site) {
    MultiplyLane lane{d, a, {b0, b1}};
    warp_collective(EVERY_LANE, &lane, combine_tf32, site);
}

void checked_async_copy(void *shared, const void *global, bool valid, Site site) {
    if (!aligned16(shared) || !aligned16(global))
        fault("%s (%s:%d): %p <- %p is not 16-byte aligned", site.operation, site.file, site.line, shared, global);
    if (!is_shared(shared, ROW_BYTES))
        fault("%s (%s:%d): %p is not shared memory", site.operation, site.file, site.line, shared);
#if CUDASIM_ASAN
    // Checked here and not at the delayed copy, so that the report names the culprit.
    if (__asan_region_is_poisoned(shared, ROW_BYTES) ||
        (valid && __asan_region_is_poisoned(const_cast<void *>(global), ROW_BYTES)))
        fault("%s (%s:%d): %p <- %p is out of bounds", site.operation, site.file, site.line, shared, global);
#endif
    async_copy(shared, global, valid ? ROW_BYTES : 0, valid ? 0 : ROW_BYTES);
}

} // namespace cudasim
