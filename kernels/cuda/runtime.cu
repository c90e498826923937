// The device: whether it can run this build, its stream, its memory and copies, and the places that are waited for.
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/recording.cuh"
#include "kernels/cuda/tuner.cuh"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum {
    SLOTS = 8, // of page-locked memory that uploads pass through
    SLOT_BYTES = 2 << 20,
    MARKS = 64, // that can be waited for at a time
    LOADED_LATER = 128 << 20, // about what the driver takes for kernels that are used and programs that are recorded
};

static struct {
    int number; // among those that the driver shows
    cudaStream_t stream;
    char *scratch;
    int multiprocessors;
    size_t free_at_open;  // before the backend took anything
    size_t held;          // by callers
    size_t own, worst;    // the most that was used beside it, and in all
    char *staging;        // (SLOTS, SLOT_BYTES)
    cudaEvent_t left[SLOTS];
    bool waits[SLOTS];    // for `left`: its copies may be under way
    int slot;             // that is being filled,
    size_t slot_used;     // so far
    cudaEvent_t marks[MARKS];
    int64_t mark, reached;
} device;

// ---- errors ----

// Faults of a kernel come to light in whatever call happens to be next.
static bool from_a_kernel(cudaError_t error) {
    switch (error) {
    case cudaErrorIllegalAddress: case cudaErrorLaunchFailure: case cudaErrorLaunchTimeout: case cudaErrorAssert:
    case cudaErrorMisalignedAddress: case cudaErrorIllegalInstruction: case cudaErrorHardwareStackError:
    case cudaErrorInvalidAddressSpace: case cudaErrorInvalidPc: return true;
    default: return false;
    }
}

void cuda_require(cudaError_t error, const char *call, const char *file, int line) {
    if (error == cudaSuccess) return;
    const char *advice = "";
    if (from_a_kernel(error))
        advice = "; it comes from a kernel queued earlier: run with CUDA_LAUNCH_BLOCKING=1 THALWEG_GRAPHS=0 to see "
                 "which";
    DIE(EXIT_INTERNAL, "%s:%d: %s: %s (%s)%s", file, line, call, cudaGetErrorString(error), cudaGetErrorName(error),
        advice);
}

cudaStream_t cuda_stream(void) { return device.stream; }
int cuda_multiprocessors(void) { return device.multiprocessors; }

void *cuda_scratch(size_t bytes) {
    REQUIRE(bytes <= CUDA_SCRATCH, "%zu bytes of scratch, at most %d", bytes, CUDA_SCRATCH);
    return device.scratch;
}

// ---- opening ----

bool cuda_read_switch(const char *name, bool *value, Errors *errors) {
    const char *text = getenv(name);
    if (!text) return true;
    if (strcmp(text, "0") != 0 && strcmp(text, "1") != 0)
        return errors_add(errors, EXIT_USAGE, "%s: \"%s\" is not one of 0, 1", name, text);
    *value = *text == '1';
    return true;
}

// "13.0" of 13000.
static void add_version(Text *out, int version) { text_printf(out, "%d.%d", version / 1000, version % 100 / 10); }

static bool find_device(int64_t number, Errors *errors) {
    int count = 0, driver = 0, runtime = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    cudaGetLastError(); // told below
    if (error == cudaSuccess && number >= 0 && number < count) return true;
    if (error == cudaSuccess && count > 0)
        return errors_add(errors, EXIT_USAGE, "device: there is no GPU %ld: the driver shows %d, from 0; look at "
                          "CUDA_VISIBLE_DEVICES and nvidia-smi", static_cast<long>(number), count);
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (error == cudaErrorInsufficientDriver && driver > 0)
        return errors_add(errors, EXIT_USAGE, "device: the NVIDIA driver knows CUDA %d.%d and this build needs %d.%d; "
                          "update the driver, build with an older toolkit, or use device=cpu", driver / 1000,
                          driver % 100 / 10, runtime / 1000, runtime % 100 / 10);
    if (error == cudaErrorInsufficientDriver)
        return errors_add(errors, EXIT_USAGE, "device: no NVIDIA driver answers; install one, or use device=cpu");
    if (error == cudaErrorNoDevice || error == cudaSuccess)
        return errors_add(errors, EXIT_USAGE, "device: the NVIDIA driver shows no GPU; look at CUDA_VISIBLE_DEVICES "
                          "and nvidia-smi, or use device=cpu");
    return errors_add(errors, EXIT_USAGE, "device: no GPU can be used: %s (%s); look at nvidia-smi, or use device=cpu",
                      cudaGetErrorString(error), cudaGetErrorName(error));
}

int64_t cuda_device_count(void) {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) cudaGetLastError(); // `open` tells
    return count;
}

void cuda_device_address(int64_t number, char out[DEVICE_ADDRESS]) {
    *out = 0;
    if (cudaDeviceGetPCIBusId(out, DEVICE_ADDRESS, static_cast<int>(number)) != cudaSuccess) *out = 0;
    cudaGetLastError(); // no address says it
}

bool cuda_is_there(void) {
    int count = 0, driver = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    cudaGetLastError(); // not wanted here
    cudaDriverGetVersion(&driver);
    return !THALWEG_SIMULATED && (count > 0 || (error == cudaErrorInsufficientDriver && driver > 0));
}

__global__ void probe() {}

// Whether the GPU is new enough and runs code of this build.
static bool probe_device(int number, Errors *errors) {
    cudaDeviceProp properties;
    cudaError_t error = cudaSetDevice(number);
    if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, number);
    if (error == cudaSuccess && properties.major < 8)
        return errors_add(errors, EXIT_USAGE, "device: %s has compute capability %d.%d, and 8.0 is needed; use "
                          "device=cpu", properties.name, properties.major, properties.minor);
    if (error == cudaSuccess) {
        LAUNCH(probe, 1, 1, 0, NULL);
        error = cudaGetLastError();
    }
    if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction)
        return errors_add(errors, EXIT_USAGE, "device: this build has no code for %s; build it again with make CUDA=1 "
                          "ARCHS=%d%d, or use device=cpu", properties.name, properties.major, properties.minor);
    if (error != cudaSuccess)
        return errors_add(errors, EXIT_USAGE, "device: the GPU cannot be used: %s (%s); look at nvidia-smi, or use "
                          "device=cpu", cudaGetErrorString(error), cudaGetErrorName(error));
    return true;
}

static size_t free_bytes(void) {
    size_t free, total;
    CUDA(cudaMemGetInfo(&free, &total));
    return free;
}

// Looks at how much is used now.
static void sample_memory(void) {
    size_t free = free_bytes(), used = free < device.free_at_open ? device.free_at_open - free : 0;
    if (used > device.worst) device.worst = used;
    if (used > device.held && used - device.held > device.own) device.own = used - device.held;
}

bool cuda_open(int64_t threads, int64_t number, Errors *errors) {
    (void)threads;
    if (!recording_configure(errors) || !tuner_configure(errors) || !gemm_configure(errors)) return false;
    REQUIRE(!device.stream || number == device.number, "GPU %d is open, and GPU %ld is asked for", device.number,
            static_cast<long>(number));
    if (device.stream) return true;
    if (!find_device(number, errors) || !probe_device(static_cast<int>(number), errors)) return false;
    device.number = static_cast<int>(number);
    device.free_at_open = free_bytes();
    if (cudaMalloc(&device.scratch, CUDA_SCRATCH) != cudaSuccess ||
        cudaHostAlloc(reinterpret_cast<void **>(&device.staging), SLOTS * SLOT_BYTES, cudaHostAllocDefault)) {
        cudaGetLastError(); // told here
        cudaFree(device.scratch);
        device.scratch = NULL;
        return errors_add(errors, EXIT_USAGE, "device: the GPU has %zu MiB free and %d are needed to begin with, and "
                          "%d MiB of page-locked memory; look at nvidia-smi for what uses it",
                          device.free_at_open >> 20, CUDA_SCRATCH >> 20, SLOTS * SLOT_BYTES >> 20);
    }
    CUDA(cudaStreamCreateWithFlags(&device.stream, cudaStreamNonBlocking));
    CUDA(cudaDeviceGetAttribute(&device.multiprocessors, cudaDevAttrMultiProcessorCount, device.number));
    for (cudaEvent_t &event : device.left) CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    for (cudaEvent_t &event : device.marks) CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    if (!gemm_open(errors)) {
        cuda_close();
        return false;
    }
    CUDA(cudaDeviceSynchronize());
    sample_memory();
    return true;
}

void cuda_close(void) {
    if (!device.stream) return;
    cuda_finish();
    recording_forget();
    gemm_close();
    for (cudaEvent_t event : device.left) CUDA(cudaEventDestroy(event));
    for (cudaEvent_t event : device.marks) CUDA(cudaEventDestroy(event));
    CUDA(cudaFreeHost(device.staging));
    CUDA(cudaFree(device.scratch));
    CUDA(cudaStreamDestroy(device.stream));
    memset(&device, 0, sizeof device);
}

// ---- memory ----

void *cuda_take_memory(size_t bytes) {
    void *memory = NULL;
    bytes = bytes > 0 ? bytes : 1;
    cudaError_t error = cudaMalloc(&memory, bytes);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError(); // the caller tells it
        return NULL;
    }
    CUDA(error);
    CUDA(cudaMemsetAsync(memory, 0, bytes, device.stream));
    cuda_account(static_cast<int64_t>(bytes));
    return memory;
}

// What was recorded may use it.
void cuda_return_memory(void *memory, size_t bytes) {
    if (!memory) return;
    cuda_finish();
    recording_forget();
    CUDA(cudaFree(memory));
    device.held -= bytes > 0 ? bytes : 1;
}

void *cuda_take_host_memory(size_t bytes) {
    void *memory = NULL;
    bytes = bytes > 0 ? bytes : 1;
    cudaError_t error = cudaHostAlloc(&memory, bytes, cudaHostAllocDefault);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError(); // the caller tells it
        return NULL;
    }
    CUDA(error);
    return memset(memory, 0, bytes);
}

void cuda_return_host_memory(void *memory, size_t bytes) {
    (void)bytes;
    if (!memory) return;
    cuda_finish(); // copies into it may be queued
    CUDA(cudaFreeHost(memory));
}

void cuda_account(int64_t bytes) {
    device.held += bytes;
    sample_memory();
}

bool cuda_is_host(void) { return false; }
size_t cuda_workspace_bytes(void) { return device.own + LOADED_LATER; }
size_t cuda_memory_bytes(void) { return device.free_at_open; }

size_t cuda_used_bytes(void) {
    if (device.stream) sample_memory();
    return device.worst;
}

// ---- copies ----

// The next slot, once the copies out of it are done.
static void next_slot(void) {
    CUDA(cudaEventRecord(device.left[device.slot], device.stream));
    device.waits[device.slot] = true;
    device.slot = (device.slot + 1) % SLOTS;
    device.slot_used = 0;
    if (device.waits[device.slot]) CUDA(cudaEventSynchronize(device.left[device.slot]));
    device.waits[device.slot] = false;
}

void cuda_upload(Tensor out, const void *host) {
    REQUIRE(tensor_contiguous(out), "strided upload");
    REQUIRE(!cuda_recording(), "an upload is not the same in every step, and cannot be recorded");
    size_t left = tensor_present(out) ? tensor_size_bytes(out) : 0;
    char *to = static_cast<char *>(out.data);
    for (const char *from = static_cast<const char *>(host); left > 0;) {
        if (device.slot_used == SLOT_BYTES) next_slot();
        size_t room = SLOT_BYTES - device.slot_used, bytes = left < room ? left : room;
        char *staged = device.staging + static_cast<size_t>(device.slot) * SLOT_BYTES + device.slot_used;
        memcpy(staged, from, bytes);
        CUDA(cudaMemcpyAsync(to, staged, bytes, cudaMemcpyHostToDevice, device.stream));
        device.slot_used += bytes;
        from += bytes, to += bytes, left -= bytes;
    }
}

void cuda_download_later(void *host, Tensor in) {
    REQUIRE(tensor_contiguous(in), "strided download");
    if (!tensor_present(in)) return;
    CUDA(cudaMemcpyAsync(host, in.data, tensor_size_bytes(in), cudaMemcpyDeviceToHost, device.stream));
}

void cuda_download(void *host, Tensor in) {
    cuda_download_later(host, in);
    cuda_finish();
}

// ---- waiting ----

void cuda_finish(void) {
    cuda_end_measuring();
    CUDA(cudaStreamSynchronize(device.stream));
    device.reached = device.mark;
}

void cuda_wait(int64_t mark) {
    REQUIRE(mark <= device.mark, "mark %ld is waited for, and the last is %ld", (long)mark, (long)device.mark);
    if (mark <= device.reached) return;
    cuda_end_measuring();
    CUDA(cudaEventSynchronize(device.marks[mark % MARKS]));
    device.reached = mark;
}

int64_t cuda_mark(void) {
    int64_t mark = device.mark + 1;
    cuda_wait(mark - MARKS); // its event is taken again
    CUDA(cudaEventRecord(device.marks[mark % MARKS], device.stream));
    return device.mark = mark;
}

// ---- what it is ----

// Dense products a second, in 10^12, as the makers say: bf16 with sums in fp32, and fp32 without tensor cores; 0: not
// known here. A row stands for the devices whose names have its words; the first such row counts.
static const struct {
    const char *words;
    double bf16, fp32;
} peaks[] = {
    {"Laptop", 0, 0},          {"RTX 4090 D", 0, 0},      {"RTX 3090 Ti", 0, 0},
    {"H100 PCIe", 756, 51.2},  {"H100 NVL", 835, 60},     {"H100", 989.4, 66.9},
    {"H200 NVL", 835, 60},     {"H200", 989.4, 66.9},     {"GH200", 989.4, 66.9},
    {"B200", 2250, 0},         {"A100", 312, 19.5},       {"A40", 149.7, 37.4},
    {"A10", 125, 31.2},        {"A6000", 154.8, 38.7},    {"L40S", 362, 91.6},
    {"L4", 121, 30.3},         {"RTX 4090", 165.2, 82.6}, {"RTX 3090", 71, 35.6},
    {"RTX 6000 Ada", 364, 91.1},
};

// Whether the words stand in the name, not within other words.
static bool has_words(const char *name, const char *words) {
    size_t size = strlen(words);
    for (const char *at = strstr(name, words); at; at = strstr(at + 1, words))
        if ((at == name || !isalnum(static_cast<unsigned char>(at[-1]))) &&
            !isalnum(static_cast<unsigned char>(at[size])))
            return true;
    return false;
}

// Of the GPU that is open, else of the first.
static bool device_properties(cudaDeviceProp *properties) {
    bool there = cuda_device_count() > 0 && cudaGetDeviceProperties(properties, device.number) == cudaSuccess;
    if (!there) cudaGetLastError(); // the caller knows
    return there;
}

double cuda_peak_flops(DType dtype) {
    cudaDeviceProp properties;
    if (!device_properties(&properties)) return 0;
    for (const auto &peak : peaks)
        if (has_words(properties.name, peak.words))
            return 1e12 * (dtype == DTYPE_BF16 ? peak.bf16 : dtype == DTYPE_F32 ? peak.fp32 : 0);
    return 0;
}

void cuda_describe(Text *out) {
    cudaDeviceProp properties;
    char memory[TEXT_NUMBER];
    int driver = 0, runtime = 0, library = static_cast<int>(cublasLtGetVersion());
    if (device_properties(&properties))
        text_printf(out, "%s, %s, compute capability %d.%d, %d multiprocessors\n", properties.name,
                    text_bytes(memory, static_cast<double>(properties.totalGlobalMem)), properties.major,
                    properties.minor, properties.multiProcessorCount);
    else
        text_add(out, "no GPU that CUDA can use\n");
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    text_add(out, "CUDA runtime ");
    add_version(out, runtime);
    text_add(out, driver > 0 ? ", driver " : ", no driver");
    if (driver > 0) add_version(out, driver);
    text_printf(out, ", cuBLASLt %d.%d.%d\n", library / 10000, library / 100 % 100, library % 100);
}
