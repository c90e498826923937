// Planted faults: each must be found. A fault that the simulator reports ends the process, so every
// such case runs in a child. A race shows as results that differ between seeds; in the build with
// the race check it is reported.
#include "tests/cudasim/check.h"
#include "kernels/cuda/ptx.cuh"

#include <set>
#include <string>

namespace {

constexpr unsigned kAll = 0xffffffffu;
#ifdef CUDASIM_RACE
constexpr bool kRaceCheck = true;
#else
constexpr bool kRaceCheck = false;
#endif

// ---- Kernels with one fault each

__global__ void write_past_global(float* out, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= count) out[i] = 1.0f;  // fault: should be <
}

__global__ void read_past_global(float* out, int count) {
  const int i = threadIdx.x;
  if (i < count) out[i] = out[i + 1];  // fault: one past the end
}

__global__ void write_past_shared(float* out) {
  SHARED(float, tile, [32]);
  tile[threadIdx.x == 31 ? 32 : threadIdx.x] = 1.0f;  // fault: one past the end
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x / 2];
}

template <bool CORRECT>
__global__ void reverse_block(float* out) {
  __shared__ float tile[128];
  tile[threadIdx.x] = threadIdx.x;
  if (CORRECT) __syncthreads();
  out[threadIdx.x] = tile[127 - threadIdx.x];
}

template <bool CORRECT>
__global__ void rotate_warp(float* out) {
  SHARED(float, tile, [32]);
  tile[threadIdx.x] = threadIdx.x;
  if (CORRECT) __syncwarp();
  out[threadIdx.x] = tile[(threadIdx.x + 1) % 32];
}

__global__ void barrier_in_branch(float* out) {
  if (threadIdx.x < 40) __syncthreads();  // fault: the others exit
  out[threadIdx.x] = 1.0f;
}

__global__ void two_barriers(float* out) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();  // fault: another barrier instruction
  out[threadIdx.x] = 1.0f;
}

__global__ void shuffle_in_branch(float* out) {
  float v = threadIdx.x;
  if (threadIdx.x < 16)
    v = __shfl_xor_sync(kAll, v, 1);  // fault: the mask names lanes that never come
  else
    __syncthreads();
  out[threadIdx.x] = v;
}

__global__ void mixed_collectives(float* out) {
  float v = threadIdx.x;
  if (threadIdx.x < 16)
    v = __shfl_xor_sync(kAll, v, 1);
  else
    v = __ballot_sync(kAll, 1);  // fault: not the same instruction
  out[threadIdx.x] = v;
}

__global__ void misaligned_vector(float* out) {
  const float4 v = *reinterpret_cast<const float4*>(out + 1 + 4 * threadIdx.x);  // fault: 4-byte aligned
  out[threadIdx.x] = v.x + v.w;
}

__global__ void misaligned_async(float* out) {
  __shared__ __align__(16) float stage[64];
  cp_async16(stage + threadIdx.x, out);  // fault
  cp_async_commit();
  cp_async_wait<0>();
}

template <bool CORRECT>
__global__ void uninitialised_shared(float* out) {
  __shared__ float tile[64];
  if (threadIdx.x < (CORRECT ? 64 : 63)) tile[threadIdx.x] = 1.0f;
  __syncthreads();
  float top = 0.0f;
  for (float v : tile) top = fmaxf(top, v);  // fmaxf hides NaN, so some seeds poison otherwise
  out[threadIdx.x] = top;
}

template <bool CORRECT>
__global__ void wait_for_async(float* out, const float* in) {
  __shared__ __align__(16) float stage[32][4];
  cp_async16(stage[threadIdx.x], in + threadIdx.x * 4);
  cp_async_commit();
  if (CORRECT) cp_async_wait<0>();
  __syncthreads();
  out[threadIdx.x] = stage[31 - threadIdx.x][1];
}

template <bool CORRECT>
__global__ void reuse_stage(float* out, const float* in) {
  __shared__ __align__(16) float stage[64][4];
  float sum = 0.0f;
  for (int step = 0; step < 3; step++) {
    cp_async16(stage[threadIdx.x], in + (step * 64 + threadIdx.x) * 4);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    sum = sum * 2 + stage[63 - threadIdx.x][2];
    if (CORRECT) __syncthreads();  // else the next copy overwrites what a slower thread reads
  }
  out[threadIdx.x] = sum;
}

template <bool CORRECT>
__global__ void block_order(float* out) {
  if (threadIdx.x != 0) return;
  if (!CORRECT) out[1 + blockIdx.x] = out[0];  // fault: reads what another block writes
  if (blockIdx.x == 3) out[0] = 1.0f;
}

template <bool CORRECT>
__global__ void last_writer(float* out) {
  out[CORRECT ? blockIdx.x * blockDim.x + threadIdx.x : threadIdx.x] = blockIdx.x;
}

__global__ void deep_recursion(float* out) {
  volatile float big[1 << 18];  // fault: more stack than a fiber has
  for (int i = 0; i < 1 << 18; i++) big[i] = 1.0f;
  out[threadIdx.x] = big[threadIdx.x];
}

__global__ void null_pointer(float* out) {
  if (threadIdx.x == 33) *reinterpret_cast<volatile float*>(out) = 1.0f;
}

__global__ void large_static(float* out) {
  SHARED(float, tile, [13000]);
  tile[threadIdx.x] = 1.0f;
  out[threadIdx.x] = tile[threadIdx.x];
}

__global__ void copy_floats(float* out, const float* in) { out[threadIdx.x] = in[threadIdx.x]; }

// ---- Faults that end in a report

struct Reported {
  const char* name;
  const char* expected;       // in the report; null: this build cannot see the fault
  const char* expected_asan;  // the same under AddressSanitizer
  void (*run)(float* out);    // out: 128 floats
};

const Reported kReported[] = {
    {"write_past_global", "write past the end of a device allocation", "heap-buffer-overflow",
     [](float* out) { LAUNCH(write_past_global, 2, 128, 0, nullptr, out, 128); }},
    {"read_past_global", nullptr, "heap-buffer-overflow",
     [](float* out) { LAUNCH(read_past_global, 1, 128, 0, nullptr, out, 128); }},
    {"write_past_shared", "past the end of a static shared array", "use-after-poison",
     [](float* out) { LAUNCH(write_past_shared, 1, 32, 0, nullptr, out); }},
    {"barrier_in_branch", "divergent barrier", "divergent barrier",
     [](float* out) { LAUNCH(barrier_in_branch, 1, 64, 0, nullptr, out); }},
    {"two_barriers", "divergent barrier", "divergent barrier",
     [](float* out) { LAUNCH(two_barriers, 1, 64, 0, nullptr, out); }},
    {"shuffle_in_branch", "no thread can run", "no thread can run",
     [](float* out) { LAUNCH(shuffle_in_branch, 1, 32, 0, nullptr, out); }},
    {"mixed_collectives", "divergent warp", "divergent warp",
     [](float* out) { LAUNCH(mixed_collectives, 1, 32, 0, nullptr, out); }},
    {"misaligned_vector", "misaligned address", "misaligned address",
     [](float* out) { LAUNCH(misaligned_vector, 1, 8, 0, nullptr, out); }},
    {"misaligned_async", "not 16-byte aligned", "not 16-byte aligned",
     [](float* out) { LAUNCH(misaligned_async, 1, 8, 0, nullptr, out); }},
    {"deep_recursion", "signal", "stack-overflow",
     [](float* out) { LAUNCH(deep_recursion, 1, 8, 0, nullptr, out); }},
    {"null_pointer", "signal", "SEGV",
     [](float*) { LAUNCH(null_pointer, 1, 64, 0, nullptr, static_cast<float*>(nullptr)); }},
    {"large_static", "static shared memory: 52000 bytes", "static shared memory: 52000 bytes",
     [](float* out) { LAUNCH(large_static, 1, 32, 0, nullptr, out); }},
};

// Runs one case in a child and returns everything it printed.
std::string output_of(const char* program, const char* name) {
  const std::string command = std::string(program) + " " + name + " 2>&1";
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  while (size_t n = fread(buffer, 1, sizeof(buffer), pipe)) text.append(buffer, n);
  if (pclose(pipe) == 0) text += "[exit status 0]";
  return text;
}

void check_reported(const char* program, bool print) {
  for (const Reported& fault : kReported) {
    const char* expected = CUDASIM_ASAN ? fault.expected_asan : fault.expected;
    if (!expected) continue;
    const std::string text = output_of(program, fault.name);
    if (print) std::printf("---- %s\n%s\n", fault.name, text.c_str());
    const bool named = text.find(std::string("kernel ") + fault.name) != std::string::npos;
    const bool found =
        text.find(expected) != std::string::npos && text.find("[exit status 0]") == std::string::npos;
    if (found && named) continue;
    std::printf("%s: not reported as \"%s\"%s\n%s\n", fault.name, expected,
                named ? "" : " with the kernel's name", text.c_str());
    failures++;
  }
}

// ---- Faults that show as results that depend on the seed

struct Differing {
  const char* name;
  const char* race_report;  // null: the race check does not see it
  void (*faulty)(float* out, const float* in);
  void (*correct)(float* out, const float* in);
};

#define BOTH(kernel, grid, block, ...)                                                           \
  [](float* out, const float*) { LAUNCH(kernel<false>, grid, block, 0, nullptr, __VA_ARGS__); }, \
      [](float* out, const float*) { LAUNCH(kernel<true>, grid, block, 0, nullptr, __VA_ARGS__); }
#define BOTH_WITH_INPUT(kernel, grid, block, ...)                                                   \
  [](float* out, const float* in) { LAUNCH(kernel<false>, grid, block, 0, nullptr, __VA_ARGS__); }, \
      [](float* out, const float* in) { LAUNCH(kernel<true>, grid, block, 0, nullptr, __VA_ARGS__); }

// The text depends on who runs first: the reader of a race may find the memory not yet written.
const Differing kDiffering[] = {
    {"missing_syncthreads", "shared memory", BOTH(reverse_block, 1, 128, out)},
    {"missing_syncwarp", "shared memory", BOTH(rotate_warp, 1, 32, out)},
    {"uninitialised_shared", "that no thread has written", BOTH(uninitialised_shared, 1, 64, out)},
    {"missing_async_wait", "the wait is missing", BOTH_WITH_INPUT(wait_for_async, 1, 32, out, in)},
    {"stage_reused_early", "race on shared memory", BOTH_WITH_INPUT(reuse_stage, 1, 64, out, in)},
    {"uninitialised_global", nullptr,
     [](float* out, const float*) {
       DeviceArray<float> never_written(128);
       LAUNCH(copy_floats, 1, 128, 0, nullptr, out, static_cast<const float*>(never_written.get()));
     },
     [](float* out, const float* in) { LAUNCH(copy_floats, 1, 128, 0, nullptr, out, in); }},
    {"block_order", nullptr, BOTH(block_order, 16, 32, out)},
    {"last_writer", "what another block wrote in the same launch", BOTH(last_writer, 4, 32, out)},
};

constexpr int kSeeds = 16;

std::vector<float> input_values() {
  std::vector<float> values(3 * 64 * 4);
  for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<float>(i);
  return values;
}

// How many different results the seeds 0..15 give.
int different_results(void (*launch)(float* out, const float* in)) {
  DeviceArray<float> in(input_values());
  std::set<std::vector<uint32_t>> results;
  for (uint64_t seed = 0; seed < kSeeds; seed++) {
    cudasim::set_seed(seed);
    DeviceArray<float> out(std::vector<float>(128, 0.0f));
    launch(out.get(), in.get());
    const auto values = out.copy();
    std::vector<uint32_t> bits(values.size());
    std::memcpy(bits.data(), values.data(), bits.size() * sizeof(uint32_t));
    results.insert(bits);
  }
  cudasim::set_seed(0);
  return static_cast<int>(results.size());
}

void check_differing(const char* program, bool print) {
  for (const Differing& fault : kDiffering) {
    CHECK(different_results(fault.correct) == 1);
    if (kRaceCheck) {
      if (!fault.race_report) continue;
      const std::string text = output_of(program, fault.name);
      if (print) std::printf("---- %s\n%s\n", fault.name, text.c_str());
      if (text.find(fault.race_report) == std::string::npos)
        std::printf("%s: not reported\n%s\n", fault.name, text.c_str()), failures++;
    } else {
      const int results = different_results(fault.faulty);
      std::printf("  %-22s %2d different results over %d seeds\n", fault.name, results, kSeeds);
      CHECK(results > 1);
    }
  }
}

void run_case(const std::string& name) {
  DeviceArray<float> out(std::vector<float>(128, 0.0f)), in(input_values());
  for (const Reported& fault : kReported)
    if (name == fault.name) fault.run(out.get());
  for (const Differing& fault : kDiffering)
    if (name == fault.name) fault.faulty(out.get(), in.get());
}

}  // namespace

int main(int argc, char** argv) {
  const bool print = argc > 1 && std::string(argv[1]) == "-v";
  if (argc > 1 && !print) {
    run_case(argv[1]);
    return 0;
  }
  check_reported(argv[0], print);
  check_differing(argv[0], print);
  std::printf(failures ? "%d FAILURES\n" : "all planted faults found\n", failures);
  return failures != 0;
}
