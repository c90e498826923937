// Planted faults, one test each: every build of the simulator must find those that it can see, and name the kernel and
// the place. What a build cannot see is skipped there.
#include "kernels/cuda/ptx.cuh"
#include "tests/cudasim/check.h"
#include "tests/cudasim/control.h"

#include <set>
#include <string>

namespace {

// ---- kernels with one fault each ----

__global__ void write_past_global(float *out, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= count) out[i] = 1.0f; // fault: should be <
}

__global__ void write_before_global(float *out) {
    if (threadIdx.x == 0) out[-1] = 1.0f;
}

__global__ void read_past_global(float *out, const float *last) {
    out[threadIdx.x] = last[threadIdx.x + 1]; // fault: one past the end
}

__global__ void write_past_shared(float *out) {
    SHARED(float, tile, [32]);
    float *row = tile;
    row[threadIdx.x == 31 ? 32 : threadIdx.x] = 1.0f; // fault: one past the end
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x / 2];
}

template <bool CORRECT> __global__ void reverse_block(float *out) {
    SHARED(float, tile, [128]);
    tile[threadIdx.x] = threadIdx.x;
    if (CORRECT) __syncthreads();
    out[threadIdx.x] = tile[127 - threadIdx.x];
}

template <bool CORRECT> __global__ void rotate_warp(float *out) {
    SHARED(float, tile, [32]);
    tile[threadIdx.x] = threadIdx.x;
    if (CORRECT) __syncwarp();
    out[threadIdx.x] = tile[(threadIdx.x + 1) % 32];
}

__global__ void barrier_in_branch(float *out) {
    if (threadIdx.x < 40) __syncthreads(); // fault: the others exit
    out[threadIdx.x] = 1.0f;
}

__global__ void two_barriers(float *out) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads(); // fault: another barrier instruction
    out[threadIdx.x] = 1.0f;
}

__global__ void shuffle_in_branch(float *out) {
    float v = threadIdx.x;
    if (threadIdx.x < 16)
        v = __shfl_xor_sync(ALL_LANES, v, 1); // fault: the mask names lanes that never come
    else
        __syncthreads();
    out[threadIdx.x] = v;
}

__global__ void mixed_collectives(float *out) {
    float v = threadIdx.x;
    if (threadIdx.x < 16)
        v = __shfl_xor_sync(ALL_LANES, v, 1);
    else
        v = __ballot_sync(ALL_LANES, 1); // fault: not the same instruction
    out[threadIdx.x] = v;
}

__global__ void misaligned_vector(float *out) {
    const float4 v = *reinterpret_cast<const float4 *>(out + 1 + 4 * threadIdx.x); // fault: 4-byte aligned
    out[threadIdx.x] = v.x + v.w;
}

__global__ void vector_in_scalars(float *out) {
    SHARED(float, tile, [32]); // fault: 4-byte aligned, whatever a compiler makes of it
    *reinterpret_cast<float4 *>(tile + 4 * threadIdx.x) = float4{1, 2, 3, 4};
    out[threadIdx.x] = tile[threadIdx.x];
}

__global__ void misaligned_async(float *out) {
    SHARED(__align__(16) float, stage, [64]);
    cp_async16(stage + threadIdx.x, out); // fault
    cp_async_commit();
    cp_async_wait<0>();
}

template <bool CORRECT> __global__ void uninitialised_shared(float *out) {
    SHARED(float, tile, [64]);
    if (threadIdx.x < (CORRECT ? 64 : 63)) tile[threadIdx.x] = 1.0f;
    __syncthreads();
    float top = 0.0f;
    for (float v : tile) top = fmaxf(top, v); // fmaxf hides NaN, so some seeds poison otherwise
    out[threadIdx.x] = top;
}

template <bool CORRECT> __global__ void wait_for_async(float *out, const float *in) {
    SHARED(__align__(16) float, stage, [32][4]);
    cp_async16(stage[threadIdx.x], in + threadIdx.x * 4);
    cp_async_commit();
    if (CORRECT) cp_async_wait<0>();
    __syncthreads();
    out[threadIdx.x] = stage[31 - threadIdx.x][1];
}

template <bool CORRECT> __global__ void reuse_stage(float *out, const float *in) {
    SHARED(__align__(16) float, stage, [64][4]);
    float sum = 0.0f;
    for (int step = 0; step < 3; step++) {
        cp_async16(stage[threadIdx.x], in + (step * 64 + threadIdx.x) * 4);
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();
        sum = sum * 2 + stage[63 - threadIdx.x][2];
        if (CORRECT) __syncthreads(); // else the next copy overwrites what a slower thread reads
    }
    out[threadIdx.x] = sum;
}

template <bool CORRECT> __global__ void block_order(float *out) {
    if (threadIdx.x != 0) return;
    if (!CORRECT) out[1 + blockIdx.x] = out[0]; // fault: reads what another block writes
    if (blockIdx.x == 3) out[0] = 1.0f;
}

template <bool CORRECT> __global__ void last_writer(float *out) {
    out[CORRECT ? blockIdx.x * blockDim.x + threadIdx.x : threadIdx.x] = blockIdx.x;
}

__global__ void deep_recursion(float *out) {
    volatile float big[1 << 18]; // fault: more stack than a fiber has
    for (int i = 0; i < 1 << 18; i++) big[i] = 1.0f;
    out[threadIdx.x] = big[threadIdx.x];
}

__global__ void null_pointer(float *out) {
    if (threadIdx.x == 33) *reinterpret_cast<volatile float *>(out) = 1.0f;
}

__global__ void far_pointer(float *out) { out[size_t{1} << 30] = 1.0f; }

__global__ void large_static(float *out) {
    SHARED(float, tile, [13000]);
    tile[threadIdx.x] = 1.0f;
    out[threadIdx.x] = tile[threadIdx.x];
}

__global__ void copy_floats(float *out, const float *in) { out[threadIdx.x] = in[threadIdx.x]; }
__global__ void scale_floats(float *out, float factor) { out[threadIdx.x] *= factor; }

// ---- what is expected of whom ----

// The results depend on the seed: a test of that kernel fails, without a word about the reason.
const char DIFFERS[] = "results differ";
const char *const UNSEEN = nullptr;

#ifdef CUDASIM_RACE
constexpr int THIS_BUILD = 2;
#else
constexpr int THIS_BUILD = CUDASIM_ASAN ? 1 : 0;
#endif

using Run = void (*)(float *out, float *in); // out: 128 zeros; in: 768 numbers
struct Fault {
    const char *where;      // a part of the report besides the file's name
    const char *reports[3]; // in the plain build, under AddressSanitizer, in the race check
    Run faulty, correct;    // correct: the same without the fault, or none
};

constexpr int SEEDS = 16, INPUTS = 3 * 64 * 4;

std::vector<float> input_values() {
    std::vector<float> values(INPUTS);
    for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<float>(i);
    return values;
}

void run_in_child(const void *context) {
    DeviceArray<float> out(std::vector<float>(128, 0.0f)), in(input_values());
    static_cast<const Fault *>(context)->faulty(out.get(), in.get());
}

int different_results(Run run) {
    DeviceArray<float> in(input_values());
    std::set<std::vector<uint32_t>> results;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        cudasim_seed(seed);
        DeviceArray<float> out(std::vector<float>(128, 0.0f));
        run(out.get(), in.get());
        const auto values = out.copy();
        std::vector<uint32_t> bits(values.size());
        memcpy(bits.data(), values.data(), bits.size() * sizeof(uint32_t));
        results.insert(bits);
    }
    cudasim_seed(0);
    return static_cast<int>(results.size());
}

void expect(const Fault &fault) {
    static char printed[1 << 16];
    const char *report = fault.reports[THIS_BUILD];
    if (report == UNSEEN) skip();
    if (fault.correct) assert_int_equal(different_results(fault.correct), 1);
    if (report == DIFFERS) {
        assert_true(different_results(fault.faulty) > 1);
        return;
    }
    const int status = test_status_of(run_in_child, &fault, printed, sizeof printed);
    if (status == 0) fail_msg("nothing was reported");
    for (const char *part : {report, fault.where, "test_cudasim_faults.cu:"})
        if (!strstr(printed, part)) fail_msg("\"%s\" is not in the report:\n%s", part, printed);
}

#define ONE(kernel, grid, block, ...)                                                      \
    [](float *out, float *in) {                                                            \
        (void)out, (void)in;                                                               \
        LAUNCH(kernel, grid, block, 0, nullptr, __VA_ARGS__);                              \
    }
#define BOTH(kernel, grid, block, ...) \
    ONE(kernel<false>, grid, block, __VA_ARGS__), ONE(kernel<true>, grid, block, __VA_ARGS__)

} // namespace

//   test                      named in the report       plain; AddressSanitizer; race check
#define FAULT(name, where, plain, asan, race, ...) \
    TEST(name) { expect({where, {plain, asan, race}, __VA_ARGS__}); }

// ---- bounds and addresses ----

FAULT(write_past_global, "kernel write_past_global", "past the end of a device allocation", "heap-buffer-overflow",
      "in no allocation", ONE(write_past_global, 2, 128, out, 128), nullptr)
FAULT(write_before_global, "kernel write_before_global", "before the start of a device allocation",
      "heap-buffer-overflow", "in no allocation", ONE(write_before_global, 1, 32, out), nullptr)
FAULT(read_past_global, "kernel read_past_global", UNSEEN, "heap-buffer-overflow", "in no allocation",
      ONE(read_past_global, 1, 128, out, in + INPUTS - 128), nullptr)
FAULT(write_past_shared, "kernel write_past_shared", "past the end of a static shared array", "use-after-poison",
      "past the end of a static shared array", ONE(write_past_shared, 1, 32, out), nullptr)
FAULT(misaligned_vector, "kernel misaligned_vector", "misaligned address", "misaligned address", "misaligned address",
      ONE(misaligned_vector, 1, 8, out), nullptr)
FAULT(vector_in_array_of_scalars, "kernel vector_in_scalars", "misaligned address", "misaligned address",
      "misaligned address", ONE(vector_in_scalars, 1, 8, out), nullptr)
FAULT(misaligned_asynchronous_copy, "kernel misaligned_async", "not 16-byte aligned", "not 16-byte aligned",
      "not 16-byte aligned", ONE(misaligned_async, 1, 8, out), nullptr)
FAULT(stack_overflow, "kernel deep_recursion", "stack overflow", "overflow", "stack overflow",
      ONE(deep_recursion, 1, 8, out), nullptr)
FAULT(null_pointer, "kernel null_pointer", "signal", "null pointer", "host memory",
      ONE(null_pointer, 1, 64, static_cast<float *>(nullptr)), nullptr)
FAULT(pointer_beyond_all_allocations, "kernel far_pointer", "in no allocation", "signal", "in no allocation",
      ONE(far_pointer, 1, 1, out), nullptr)
FAULT(host_memory_in_kernel, "kernel copy_floats", UNSEEN, UNSEEN, "host memory",
      [](float *out, float *) {
          const std::vector<float> on_host(128);
          LAUNCH(copy_floats, 1, 128, 0, nullptr, out, on_host.data());
      },
      nullptr)
FAULT(too_much_static_shared, "kernel large_static", "static shared memory: 52000 bytes",
      "static shared memory: 52000 bytes", "static shared memory: 52000 bytes", ONE(large_static, 1, 32, out), nullptr)

// ---- divergence ----

FAULT(divergent_barrier, "kernel barrier_in_branch", "divergent barrier", "divergent barrier", "divergent barrier",
      ONE(barrier_in_branch, 1, 64, out), nullptr)
FAULT(two_barriers, "kernel two_barriers", "divergent barrier", "divergent barrier", "divergent barrier",
      ONE(two_barriers, 1, 64, out), nullptr)
FAULT(shuffle_in_branch, "kernel shuffle_in_branch", "no thread can run", "no thread can run", "no thread can run",
      ONE(shuffle_in_branch, 1, 32, out), nullptr)
FAULT(mixed_collectives, "kernel mixed_collectives", "divergent warp", "divergent warp", "divergent warp",
      ONE(mixed_collectives, 1, 32, out), nullptr)

// ---- order and initialisation: what a race report says depends on who runs first ----

FAULT(missing_syncthreads, "kernel reverse_block", DIFFERS, DIFFERS, "shared memory", BOTH(reverse_block, 1, 128, out))
FAULT(missing_syncwarp, "kernel rotate_warp", DIFFERS, DIFFERS, "shared memory", BOTH(rotate_warp, 1, 32, out))
FAULT(uninitialised_shared, "kernel uninitialised_shared", DIFFERS, DIFFERS, "that no thread has written",
      BOTH(uninitialised_shared, 1, 64, out))
FAULT(missing_asynchronous_wait, "kernel wait_for_async", DIFFERS, DIFFERS, "the wait is missing",
      BOTH(wait_for_async, 1, 32, out, in))
FAULT(stage_reused_early, "kernel reuse_stage", DIFFERS, DIFFERS, "race on shared memory",
      BOTH(reuse_stage, 1, 64, out, in))
FAULT(uninitialised_global, "", DIFFERS, DIFFERS, DIFFERS,
      [](float *out, float *) {
          DeviceArray<float> never_written(128);
          LAUNCH(copy_floats, 1, 128, 0, nullptr, out, never_written.get());
      },
      ONE(copy_floats, 1, 128, out, in))
FAULT(order_of_blocks, "", DIFFERS, DIFFERS, DIFFERS, BOTH(block_order, 16, 32, out))
FAULT(blocks_write_one_address, "kernel last_writer", DIFFERS, DIFFERS, "another block wrote in the same launch",
      BOTH(last_writer, 4, 32, out))

// ---- host code ----

FAULT(host_reads_device_memory, "host code touched device memory", "in an allocation of 512 bytes", UNSEEN,
      "in an allocation of 512 bytes", [](float *out, float *) { fprintf(stderr, "%f", *(volatile float *)out); },
      nullptr)
FAULT(host_writes_device_memory, "host code touched device memory", "in an allocation of 3072 bytes", UNSEEN,
      "in an allocation of 3072 bytes",
      [](float *out, float *in) {
          LAUNCH(copy_floats, 1, 128, 0, nullptr, out, in);
          *(volatile float *)(in + 5) = 1;
      },
      nullptr)

namespace {

template <bool CORRECT> void record_step(float *out, float *in, float step) {
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    cudaStreamCreate(&stream);
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
    LAUNCH(copy_floats, 1, 128, 0, stream, out, in);
    LAUNCH(scale_floats, 1, 128, 0, stream, out, CORRECT ? 1 : step);
    cudaStreamEndCapture(stream, &graph);
    cudaGraphInstantiate(&executable, graph);
    for (int i = 0; i < 2; i++) cudaGraphLaunch(executable, stream);
    cudaGraphDestroy(graph);
    cudaGraphExecDestroy(executable);
    cudaStreamDestroy(stream);
}

template <bool CORRECT> void record_two_steps(float *out, float *in) {
    record_step<CORRECT>(out, in, 1);
    record_step<CORRECT>(out, in, 2);
    cudasim_compare_graphs(-2, -1);
}

} // namespace

#define BAKED "kernel scale_floats, argument 2 differs between two recordings"
FAULT(scalar_baked_into_a_graph, "a value of one step was baked into the graph", BAKED, BAKED, BAKED,
      record_two_steps<false>, record_two_steps<true>)
