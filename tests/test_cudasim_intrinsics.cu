// The language, intrinsics and PTX wrappers of the simulator one by one, against known answers under several schedules.
#include "kernels/cuda/ptx.cuh"
#include "tests/cudasim/check.h"
#include "tests/cudasim/control.h"

namespace {

// Every seed, and several host threads where blocks may run on them.
void for_each_schedule(void (*test)()) {
    for (uint64_t seed = 0; seed < 8; seed++) {
        cudasim_seed(seed);
        cudasim_host_threads(CUDASIM_ASAN ? 1 : seed % 3 + 1);
        test();
    }
    cudasim_host_threads(1);
}

// Runs a kernel of one argument (int* results) and returns what it wrote.
template <class K> std::vector<int> results_of(K kernel, dim3 grid, dim3 block, int count) {
    DeviceArray<int> out(std::vector<int>(count, -1));
    LAUNCH(kernel, grid, block, 0, nullptr, out.get());
    assert_true(cudaGetLastError() == cudaSuccess);
    assert_true(cudaDeviceSynchronize() == cudaSuccess);
    return out.copy();
}

// ---- Indices

__global__ void index_kernel(int *out) {
    const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

void test_indices() {
    const auto out = results_of(index_kernel, dim3(2, 3, 2), dim3(5, 3, 4), 12 * 60);
    for (int i = 0; i < 720; i++) assert_true(out[i] == i / 60 * 1000 + i % 60);
}

// ---- Shuffles and votes

__global__ void shuffle_kernel(int *out) {
    const int lane = threadIdx.x;
    out[lane] = __shfl_xor_sync(ALL_LANES, lane, 5);
    out[32 + lane] = __shfl_down_sync(ALL_LANES, lane, 3);
    out[64 + lane] = __shfl_up_sync(ALL_LANES, lane, 3, 8);
    out[96 + lane] = __shfl_sync(ALL_LANES, lane, 9, 8);
    out[128 + lane] = static_cast<int>(__shfl_sync(ALL_LANES, lane * 0.5, 31) * 2);
}

void test_shuffles() {
    const auto out = results_of(shuffle_kernel, 1, 32, 160);
    for (int i = 0; i < 32; i++) {
        assert_true(out[i] == (i ^ 5));
        assert_true(out[32 + i] == (i + 3 < 32 ? i + 3 : i));
        assert_true(out[64 + i] == (i % 8 >= 3 ? i - 3 : i));
        assert_true(out[96 + i] == i / 8 * 8 + 1);
        assert_true(out[128 + i] == 31);
    }
}

__global__ void vote_kernel(int *out) {
    const int lane = threadIdx.x;
    out[lane] = static_cast<int>(__ballot_sync(ALL_LANES, lane % 3 == 0));
    out[32 + lane] =
        __any_sync(ALL_LANES, lane == 7) + 2 * __all_sync(ALL_LANES, lane < 31) + 4 * __all_sync(ALL_LANES, lane < 32);
    out[64 + lane] = static_cast<int>(__reduce_add_sync(ALL_LANES, static_cast<unsigned>(lane)));
    // Two halves of the warp in collectives of their own at the same time.
    if (lane < 16)
        out[96 + lane] = __shfl_xor_sync(0x0000ffffu, lane, 1) + __reduce_min_sync(0x0000ffffu, lane - 3);
    else
        out[96 + lane] = static_cast<int>(__ballot_sync(0xffff0000u, lane % 2) >> 16);
}

void test_votes() {
    const auto out = results_of(vote_kernel, 1, 32, 128);
    for (int i = 0; i < 32; i++) {
        assert_true(out[i] == 0x49249249);
        assert_true(out[32 + i] == 1 + 4);
        assert_true(out[64 + i] == 496);
        assert_true(out[96 + i] == (i < 16 ? (i ^ 1) - 3 : 0xaaaa));
    }
}

// ---- Barriers, atomics, shared memory

__global__ void barrier_kernel(int *out) {
    out[threadIdx.x] = __syncthreads_count(threadIdx.x < 10) + 1000 * __syncthreads_or(threadIdx.x == 69) +
                       2000 * __syncthreads_and(threadIdx.x < 70) + 4000 * __syncthreads_and(threadIdx.x < 69);
}

__global__ void atomic_kernel(int *out) {
    atomicAdd(&out[0], 2);
    atomicAdd(reinterpret_cast<unsigned *>(&out[1]), 1u);
    atomicAdd(reinterpret_cast<float *>(&out[2]), 0.5);
    atomicAdd(reinterpret_cast<unsigned long long *>(&out[4]), 1ull << 30);
    atomicMax(&out[6], static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x));
}

void test_barriers_and_atomics() {
    const auto counts = results_of(barrier_kernel, 1, 70, 70);
    for (int v : counts) assert_true(v == 10 + 1000 + 2000);
    DeviceArray<int> out(std::vector<int>(8, 0));
    LAUNCH(atomic_kernel, 20, 50, 0, nullptr, out.get());
    const auto v = out.copy();
    float sum;
    unsigned long long wide;
    std::memcpy(&sum, &v[2], sizeof(sum));
    std::memcpy(&wide, &v[4], sizeof(wide));
    assert_true(v[0] == 2000 && v[1] == 1000 && sum == 500.0f && wide == 1000ull << 30 && v[6] == 999);
}

// Static shared arrays in a template: reverses a block through two.
template <int N> __global__ void shared_kernel(int *out) {
    SHARED(int, first, [N]);
    SHARED(int, second, [2][N]);
    first[threadIdx.x] = threadIdx.x;
    second[0][threadIdx.x] = 10 * threadIdx.x;
    second[1][threadIdx.x] = N;
    __syncthreads();
    const int other = N - 1 - threadIdx.x;
    out[blockIdx.x * N + threadIdx.x] = first[other] + second[0][other] + second[1][other];
}

template <int N> void test_shared() {
    const auto out = results_of(shared_kernel<N>, 7, N, 7 * N);
    for (int i = 0; i < 7 * N; i++) assert_true(out[i] == 11 * (N - 1 - i % N) + N);
}

// ---- ldmatrix

template <int MATRICES, bool TRANSPOSED> __global__ void ldmatrix_kernel(int *out) {
    SHARED(__align__(16) uint16_t, rows, [32][8]);
    for (int i = 0; i < 8; i++) rows[threadIdx.x][i] = threadIdx.x * 8 + i;
    __syncwarp();
    uint32_t r[MATRICES];
    const void *row = rows[threadIdx.x % (8 * MATRICES)];
    if constexpr (MATRICES == 1) TRANSPOSED ? ldmatrix_x1_trans(r, row) : ldmatrix_x1(r, row);
    if constexpr (MATRICES == 2) TRANSPOSED ? ldmatrix_x2_trans(r, row) : ldmatrix_x2(r, row);
    if constexpr (MATRICES == 4) TRANSPOSED ? ldmatrix_x4_trans(r, row) : ldmatrix_x4(r, row);
    for (int m = 0; m < MATRICES; m++) out[m * 32 + threadIdx.x] = static_cast<int>(r[m]);
}

template <int MATRICES, bool TRANSPOSED> void test_ldmatrix() {
    const auto out = results_of(ldmatrix_kernel<MATRICES, TRANSPOSED>, 1, 32, MATRICES * 32);
    for (int i = 0; i < MATRICES * 32; i++) {
        const int base = i / 32 * 64, major = i % 32 / 4, minor = i % 4 * 2;
        const int low = base + (TRANSPOSED ? minor * 8 + major : major * 8 + minor);
        const int high = low + (TRANSPOSED ? 8 : 1);
        assert_true(out[i] == (low | high << 16));
    }
}

// ---- mma.sync: small integers, so that every sum is exact in any order

__device__ int a_value(int row, int k) { return (row * 3 + k * 5) % 7 - 3; }
__device__ int b_value(int k, int n) { return (k * 2 + n * 11) % 9 - 4; }

__device__ uint32_t bf16_pair(int low, int high) {
    return static_cast<uint32_t>(__bfloat16_as_ushort(__float2bfloat16_rn(static_cast<float>(low)))) |
           static_cast<uint32_t>(__bfloat16_as_ushort(__float2bfloat16_rn(static_cast<float>(high)))) << 16;
}

// Fragments are filled from the layout tables of the PTX manual.
template <int K> __global__ void mma_kernel(int *out) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    uint32_t a[4], b[2];
    float d[4];
    for (int i = 0; i < 4; i++) d[i] = static_cast<float>(i % 2 + 10 * i);
    if constexpr (K == 16) {
        for (int i = 0; i < 4; i++)
            a[i] = bf16_pair(a_value(g + i % 2 * 8, t * 2 + i / 2 * 8), a_value(g + i % 2 * 8, t * 2 + i / 2 * 8 + 1));
        for (int i = 0; i < 2; i++) b[i] = bf16_pair(b_value(t * 2 + i * 8, g), b_value(t * 2 + i * 8 + 1, g));
        mma_m16n8k16_bf16(d, a, b[0], b[1]);
    } else {
        for (int i = 0; i < 4; i++) a[i] = __float_as_uint(static_cast<float>(a_value(g + i % 2 * 8, t + i / 2 * 4)));
        for (int i = 0; i < 2; i++) b[i] = __float_as_uint(static_cast<float>(b_value(t + i * 4, g)));
        mma_m16n8k8_tf32(d, a, b[0], b[1]);
    }
    // out[0..127]: the product; out[128..255]: what the host needs to check it.
    for (int i = 0; i < 4; i++) {
        const int row = g + i / 2 * 8, n = t * 2 + i % 2;
        int expected = i % 2 + 10 * i;
        for (int k = 0; k < K; k++) expected += a_value(row, k) * b_value(k, n);
        out[row * 8 + n] = static_cast<int>(d[i]);
        out[128 + row * 8 + n] = expected;
    }
}

template <int K> void test_mma() {
    const auto out = results_of(mma_kernel<K>, 1, 32, 256);
    for (int i = 0; i < 128; i++) assert_true(out[i] == out[128 + i]);
}

// ---- cp.async

__global__ void async_kernel(int *out, const int *in) {
    SHARED(__align__(16) int, stage, [3][32][4]);
    for (int s = 0; s < 3; s++) {
        cp_async16(stage[s][threadIdx.x], in + (s * 32 + threadIdx.x) * 4, !(s == 1 && threadIdx.x == 5));
        cp_async_commit();
    }
    cp_async_wait<1>();
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < 4; i++) out[(s * 32 + threadIdx.x) * 4 + i] = stage[s][threadIdx.x][i];
    cp_async_wait<0>();
    for (int i = 0; i < 4; i++) out[(64 + threadIdx.x) * 4 + i] = stage[2][threadIdx.x][i];
}

void test_async() {
    std::vector<int> values(3 * 128);
    for (int i = 0; i < 384; i++) values[i] = i + 1;
    DeviceArray<int> in(values), out(384);
    LAUNCH(async_kernel, 1, 32, 0, nullptr, out.get(), static_cast<const int *>(in.get()));
    const auto got = out.copy();
    for (int i = 0; i < 384; i++) assert_true(got[i] == (i / 4 == 32 + 5 ? 0 : i + 1));
}

// ---- bf16 arithmetic

__global__ void bf16_kernel(int *out) {
    const __nv_bfloat162 a = __floats2bfloat162_rn(1.5f, -2.0f), b = __float2bfloat162_rn(3.0f);
    const float2 fused = __bfloat1622float2(__hfma2(a, b, b)), sum = __bfloat1622float2(__hadd2(a, b));
    const __nv_bfloat162 moved = __shfl_xor_sync(ALL_LANES, __floats2bfloat162_rn(threadIdx.x, 1.0f), 1);
    out[2 + threadIdx.x] = static_cast<int>(__low2float(moved));
    if (threadIdx.x != 0) return;
    out[0] = static_cast<int>(fused.x * 2) * 100 + static_cast<int>(fused.y);
    out[1] = static_cast<int>(sum.x * 2) * 100 + static_cast<int>(sum.y);
    out[34] = static_cast<int>(__bfloat162float(__hmul(a.x, b.x)) * 2);
    out[35] = static_cast<int>(exp2_approx(3.0f) + rsqrtf(0.25f) + 0.5f);
}

void test_bf16() {
    const auto out = results_of(bf16_kernel, 1, 32, 36);
    assert_true(out[0] == 1500 - 3 && out[1] == 901 && out[34] == 9 && out[35] == 10);
    for (int i = 0; i < 32; i++) assert_true(out[2 + i] == (i ^ 1));
}

// ---- Launch limits and the runtime

__global__ void dynamic_kernel(int *out) {
    DYNAMIC_SHARED(int, values);
    values[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

cudaError_t launch_dynamic(int *out, dim3 grid, int threads, size_t bytes) {
    LAUNCH(dynamic_kernel, grid, threads, bytes, nullptr, out);
    return cudaGetLastError();
}

void test_limits() {
    DeviceArray<int> out(2048);
    assert_true(launch_dynamic(out.get(), 1, 1024, 4096) == cudaSuccess);
    assert_true(out.copy()[0] == 1023);
    assert_true(launch_dynamic(out.get(), 1, 1025, 8192) == cudaErrorInvalidConfiguration);
    assert_true(launch_dynamic(out.get(), 0, 32, 8192) == cudaErrorInvalidConfiguration);
    assert_true(launch_dynamic(out.get(), dim3(1, 65536), 32, 8192) == cudaErrorInvalidConfiguration);
    assert_true(launch_dynamic(out.get(), 1, 32, 60 << 10) == cudaErrorInvalidValue);
    assert_true(cudaFuncSetAttribute(dynamic_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10) !=
                cudaSuccess);
    (void)cudaGetLastError();
    assert_true(cudaFuncSetAttribute(dynamic_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 << 10) ==
                cudaSuccess);
    assert_true(launch_dynamic(out.get(), 1, 32, 227 << 10) == cudaSuccess);
    assert_true(launch_dynamic(out.get(), 1, 32, 228 << 10) == cudaErrorInvalidValue);
}

void test_runtime() {
    cudaStream_t stream;
    cudaEvent_t start, end;
    assert_true(cudaStreamCreate(&stream) == cudaSuccess);
    assert_true(cudaEventCreate(&start) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess);
    assert_true(cudaEventRecord(start, stream) == cudaSuccess);
    int *pinned = nullptr;
    assert_true(cudaMallocHost(&pinned, 64) == cudaSuccess);
    DeviceArray<int> device(16);
    assert_true(cudaMemsetAsync(device.get(), 1, 64, stream) == cudaSuccess);
    assert_true(cudaMemcpyAsync(pinned, device.get(), 64, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
    assert_true(cudaStreamSynchronize(stream) == cudaSuccess && pinned[15] == 0x01010101);
    assert_true(cudaEventRecord(end, stream) == cudaSuccess && cudaEventSynchronize(end) == cudaSuccess);
    float milliseconds = -1;
    assert_true(cudaEventElapsedTime(&milliseconds, start, end) == cudaSuccess && milliseconds >= 0);
    int threads = 0;
    assert_true(cudaDeviceGetAttribute(&threads, cudaDevAttrMaxThreadsPerBlock, 0) == cudaSuccess && threads == 1024);
    assert_true(cudaFreeHost(pinned) == cudaSuccess && cudaStreamDestroy(stream) == cudaSuccess);
    assert_true(cudaEventDestroy(start) == cudaSuccess && cudaEventDestroy(end) == cudaSuccess);
}

} // namespace

TEST(indices) { for_each_schedule(test_indices); }
TEST(shuffles) { for_each_schedule(test_shuffles); }
TEST(votes) { for_each_schedule(test_votes); }
TEST(barriers_and_atomics) { for_each_schedule(test_barriers_and_atomics); }
TEST(static_shared_memory_of_32) { for_each_schedule(test_shared<32>); }
TEST(static_shared_memory_of_256) { for_each_schedule(test_shared<256>); }
TEST(static_shared_memory_of_1024) { for_each_schedule(test_shared<1024>); }
TEST(ldmatrix_x1) { for_each_schedule(test_ldmatrix<1, false>); }
TEST(ldmatrix_x2) { for_each_schedule(test_ldmatrix<2, false>); }
TEST(ldmatrix_x4) { for_each_schedule(test_ldmatrix<4, false>); }
TEST(ldmatrix_x1_transposed) { for_each_schedule(test_ldmatrix<1, true>); }
TEST(ldmatrix_x2_transposed) { for_each_schedule(test_ldmatrix<2, true>); }
TEST(ldmatrix_x4_transposed) { for_each_schedule(test_ldmatrix<4, true>); }
TEST(mma_of_bf16) { for_each_schedule(test_mma<16>); }
TEST(mma_of_tf32) { for_each_schedule(test_mma<8>); }
TEST(asynchronous_copies) { for_each_schedule(test_async); }
TEST(bf16_arithmetic) { for_each_schedule(test_bf16); }
TEST(rounding_to_bf16) {
    const struct {
        double x;
        unsigned bits;
    } known[] = {
        {1, 0x3f80},        {1 + 0x1p-8, 0x3f80},           {1 + 0x3p-8, 0x3f82}, {1 + 0x1p-8 + 0x1p-40, 0x3f81},
        {-1e300, 0xff80},   {0x1.fe8p127, 0x7f7f},          {0x1.ffp127, 0x7f80}, {0x1p-133, 0x0001},
        {-0.0, 0x8000},     {1 + 0x3p-8 - 0x1p-40, 0x3f81}, {NAN, 0x7fff},        {INFINITY, 0x7f80},
        {0x1p-134, 0x0000}, {0x1p-134 + 0x1p-170, 0x0001},
    };
    for (const auto &k : known) {
        assert_int_equal(__bfloat16_as_ushort(__double2bfloat16(k.x)), k.bits);
        if (k.x == static_cast<float>(k.x) || k.x != k.x)
            assert_int_equal(__bfloat16_as_ushort(__float2bfloat16_rn(static_cast<float>(k.x))), k.bits);
    }
}
TEST(launch_limits) { test_limits(); }
TEST(runtime_calls) { test_runtime(); }
