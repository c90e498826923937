// The CUDA runtime's calls about the device, errors, copies. Everything is done in the order of the calls: a stream has
// nothing to wait for.
#include "tests/cudasim/cudasim_internal.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

namespace cudasim {
namespace {

// An sm_90 device with few multiprocessors, so that persistent grids stay small.
constexpr int MULTIPROCESSORS = 4, BLOCK_SHARED = 48 << 10, BLOCK_SHARED_OPTIN = 227 << 10, CUDA_VERSION = 13000;

std::map<const void *, size_t> opted_in;
thread_local int present_device;

// Devices are alike and share one memory; CUDASIM_DEVICES says how many there are.
int devices_there() {
    const char *wanted = getenv("CUDASIM_DEVICES");
    return wanted ? atoi(wanted) : 1;
}

// Those that CUDA_VISIBLE_DEVICES shows, in its order, up to the first that is not there; all without it.
std::vector<int> visible_devices() {
    const int there = devices_there();
    const char *shown = getenv("CUDA_VISIBLE_DEVICES");
    std::vector<int> visible;
    if (!shown)
        for (int i = 0; i < there; i++) visible.push_back(i);
    for (char *rest; shown; shown = *rest == ',' ? rest + 1 : nullptr) {
        const long number = strtol(shown, &rest, 10);
        if (rest == shown || number < 0 || number >= there) break;
        visible.push_back(static_cast<int>(number));
    }
    return visible;
}

int device_count() { return static_cast<int>(visible_devices().size()); }

thread_local cudaError_t last_error = cudaSuccess;

struct ErrorText {
    cudaError_t error;
    const char *name, *text;
};
#define ERROR(name, text) \
    { name, #name, text }
const ErrorText error_texts[] = {
    ERROR(cudaSuccess, "no error"),
    ERROR(cudaErrorInvalidValue, "invalid argument"),
    ERROR(cudaErrorMemoryAllocation, "out of memory"),
    ERROR(cudaErrorInitializationError, "initialization error"),
    ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    ERROR(cudaErrorInvalidPitchValue, "invalid pitch argument"),
    ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    ERROR(cudaErrorInsufficientDriver, "driver older than the runtime"),
    ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    ERROR(cudaErrorNoDevice, "no CUDA device"),
    ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    ERROR(cudaErrorNoKernelImageForDevice, "no kernel image for this device"),
    ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    ERROR(cudaErrorIllegalState, "operation not allowed in the object's present state"),
    ERROR(cudaErrorNotReady, "device not ready"),
    ERROR(cudaErrorIllegalAddress, "illegal memory access"),
    ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    ERROR(cudaErrorLaunchTimeout, "the launch took too long"),
    ERROR(cudaErrorAssert, "an assertion of a kernel failed"),
    ERROR(cudaErrorHardwareStackError, "hardware stack error"),
    ERROR(cudaErrorIllegalInstruction, "illegal instruction"),
    ERROR(cudaErrorMisalignedAddress, "misaligned address"),
    ERROR(cudaErrorInvalidAddressSpace, "operation not supported in this address space"),
    ERROR(cudaErrorInvalidPc, "invalid program counter"),
    ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    ERROR(cudaErrorNotPermitted, "operation not permitted"),
    ERROR(cudaErrorNotSupported, "operation not supported"),
    ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted while a stream is capturing"),
    ERROR(cudaErrorStreamCaptureInvalidated, "an earlier error has invalidated the capture"),
    ERROR(cudaErrorStreamCaptureMerge, "two captures would be merged"),
    ERROR(cudaErrorStreamCaptureUnmatched, "the capture was not begun on this stream"),
    ERROR(cudaErrorStreamCaptureUnjoined, "a forked stream was not joined before the end of the capture"),
    ERROR(cudaErrorStreamCaptureIsolation, "dependency on work outside the capture"),
    ERROR(cudaErrorStreamCaptureImplicit, "implicit dependency on the legacy stream while a stream is capturing"),
    ERROR(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
    ERROR(cudaErrorStreamCaptureWrongThread, "the capture was begun by another thread"),
    ERROR(cudaErrorUnknown, "unknown error"),
};
#undef ERROR

const ErrorText &text_of(cudaError_t error) {
    for (const ErrorText &e : error_texts)
        if (e.error == error) return e;
    static const ErrorText unrecognized = {cudaErrorUnknown, "unrecognized error code", "unrecognized error code"};
    return unrecognized;
}

// ---- copies

struct Rows {
    void *to;
    size_t to_pitch;
    const void *from;
    size_t from_pitch, width, height;
};

size_t span(size_t pitch, size_t width, size_t height) { return height ? (height - 1) * pitch + width : 0; }

cudaError_t check_side(const void *address, size_t bytes, bool on_device) {
    if (on_device) return is_device_memory(address, bytes) ? cudaSuccess : cudaErrorInvalidValue;
    return is_device_address(address) ? cudaErrorInvalidValue : cudaSuccess;
}

cudaError_t check_copy(const Rows &r, cudaMemcpyKind kind) {
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
    if (r.width > r.to_pitch || r.width > r.from_pitch) return cudaErrorInvalidPitchValue;
    if (!r.width || !r.height) return cudaSuccess;
    const bool inferred = kind == cudaMemcpyDefault;
    const bool to_device =
        inferred ? is_device_address(r.to) : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device =
        inferred ? is_device_address(r.from) : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    const cudaError_t error = check_side(r.to, span(r.to_pitch, r.width, r.height), to_device);
    return error ? error : check_side(r.from, span(r.from_pitch, r.width, r.height), from_device);
}

void copy_rows(const Rows &r) {
    const DeviceAccess access;
    for (size_t i = 0; i < r.height; i++)
        memmove(static_cast<char *>(r.to) + i * r.to_pitch, static_cast<const char *>(r.from) + i * r.from_pitch,
                r.width);
}

cudaError_t copy_in_order(const char *name, const void *code, const Rows &rows, cudaMemcpyKind kind,
                          cudaStream_t stream) {
    std::lock_guard<std::recursive_mutex> lock(api_mutex);
    const cudaError_t error = check_copy(rows, kind);
    if (error) return done(error);
    return submit(stream, name, code,
                  {value_bytes(rows.to), value_bytes(rows.from), value_bytes(rows.width), value_bytes(rows.height),
                   value_bytes(rows.to_pitch), value_bytes(rows.from_pitch)},
                  [rows] { copy_rows(rows); });
}

cudaError_t copy_now(const Rows &rows, cudaMemcpyKind kind) {
    std::lock_guard<std::recursive_mutex> lock(api_mutex);
    if (forbidden_in_capture()) return cudaErrorStreamCaptureUnsupported;
    const cudaError_t error = check_copy(rows, kind);
    if (!error) copy_rows(rows);
    return done(error);
}

// ---- fills

struct Fill {
    void *to;
    size_t pitch;
    int value;
    size_t width, height;
};

cudaError_t check_fill(const Fill &f) {
    if (f.width > f.pitch) return cudaErrorInvalidPitchValue;
    if (!f.width || !f.height) return cudaSuccess;
    return check_side(f.to, span(f.pitch, f.width, f.height), true);
}

void fill_rows(const Fill &f) {
    const DeviceAccess access;
    for (size_t i = 0; i < f.height; i++) memset(static_cast<char *>(f.to) + i * f.pitch, f.value, f.width);
}

cudaError_t fill_in_order(const char *name, const void *code, const Fill &fill, cudaStream_t stream) {
    std::lock_guard<std::recursive_mutex> lock(api_mutex);
    const cudaError_t error = check_fill(fill);
    if (error) return done(error);
    return submit(stream, name, code,
                  {value_bytes(fill.to), value_bytes(fill.value), value_bytes(fill.width), value_bytes(fill.height),
                   value_bytes(fill.pitch)},
                  [fill] { fill_rows(fill); });
}

cudaError_t fill_now(const Fill &fill) {
    std::lock_guard<std::recursive_mutex> lock(api_mutex);
    if (forbidden_in_capture()) return cudaErrorStreamCaptureUnsupported;
    const cudaError_t error = check_fill(fill);
    if (!error) fill_rows(fill);
    return done(error);
}

} // namespace

cudaError_t done(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

size_t opted_in_shared(const void *kernel) {
    std::lock_guard<std::recursive_mutex> lock(api_mutex);
    const auto found = opted_in.find(kernel);
    return found == opted_in.end() ? 0 : found->second;
}

} // namespace cudasim

using namespace cudasim;

#define HERE __builtin_return_address(0)

extern "C" {

cudaError_t cudaGetLastError() {
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}
cudaError_t cudaPeekAtLastError() { return last_error; }
const char *cudaGetErrorName(cudaError_t error) { return text_of(error).name; }
const char *cudaGetErrorString(cudaError_t error) { return text_of(error).text; }

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    return copy_in_order("cudaMemcpyAsync", HERE, {to, bytes, from, bytes, bytes, 1}, kind, stream);
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
    return copy_in_order("cudaMemcpy2DAsync", HERE, {to, to_pitch, from, from_pitch, width, height}, kind, stream);
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    return copy_now({to, bytes, from, bytes, bytes, 1}, kind);
}
cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind) {
    return copy_now({to, to_pitch, from, from_pitch, width, height}, kind);
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
    return fill_in_order("cudaMemsetAsync", HERE, {to, bytes, value, bytes, 1}, stream);
}
cudaError_t cudaMemset2DAsync(void *to, size_t pitch, int value, size_t width, size_t height, cudaStream_t stream) {
    return fill_in_order("cudaMemset2DAsync", HERE, {to, pitch, value, width, height}, stream);
}
cudaError_t cudaMemset(void *to, int value, size_t bytes) { return fill_now({to, bytes, value, bytes, 1}); }
cudaError_t cudaMemset2D(void *to, size_t pitch, int value, size_t width, size_t height) {
    return fill_now({to, pitch, value, width, height});
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = CUDA_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) { return cudaDriverGetVersion(version); }
cudaError_t cudaGetDeviceCount(int *count) {
    *count = device_count();
    return done(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int *device) {
    *device = present_device;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= device_count()) return done(cudaErrorInvalidDevice);
    present_device = device;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device) {
    const std::vector<int> visible = visible_devices();
    if (device < 0 || device >= static_cast<int>(visible.size())) return done(cudaErrorInvalidDevice);
    const int bus = visible[static_cast<size_t>(device)] + 1;
    const int length = snprintf(text, static_cast<size_t>(size), "0000:%02x:00.0", bus);
    return done(length < size ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    if (device < 0 || device >= device_count()) return done(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = BLOCK_SHARED; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMaxRegistersPerBlock: *value = 65536; break;
    case cudaDevAttrClockRate: *value = 1000000; break;
    case cudaDevAttrMultiProcessorCount: *value = MULTIPROCESSORS; break;
    case cudaDevAttrMemoryClockRate: *value = 1000000; break;
    case cudaDevAttrGlobalMemoryBusWidth: *value = 1024; break;
    case cudaDevAttrL2CacheSize: *value = 1 << 20; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = 228 << 10; break;
    case cudaDevAttrMaxRegistersPerMultiprocessor: *value = 65536; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = BLOCK_SHARED_OPTIN; break;
    default: return done(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
    const auto attribute = [device](cudaDeviceAttr wanted) {
        int value = 0;
        cudaDeviceGetAttribute(&value, wanted, device);
        return value;
    };
    if (device < 0 || device >= device_count()) return done(cudaErrorInvalidDevice);
    *properties = {};
    snprintf(properties->name, sizeof properties->name, "CUDA simulator");
    size_t free;
    cudaMemGetInfo(&free, &properties->totalGlobalMem);
    properties->sharedMemPerBlock = attribute(cudaDevAttrMaxSharedMemoryPerBlock);
    properties->regsPerBlock = attribute(cudaDevAttrMaxRegistersPerBlock);
    properties->warpSize = attribute(cudaDevAttrWarpSize);
    properties->maxThreadsPerBlock = attribute(cudaDevAttrMaxThreadsPerBlock);
    properties->major = attribute(cudaDevAttrComputeCapabilityMajor);
    properties->minor = attribute(cudaDevAttrComputeCapabilityMinor);
    properties->multiProcessorCount = attribute(cudaDevAttrMultiProcessorCount);
    properties->memoryBusWidth = attribute(cudaDevAttrGlobalMemoryBusWidth);
    properties->l2CacheSize = attribute(cudaDevAttrL2CacheSize);
    properties->maxThreadsPerMultiProcessor = attribute(cudaDevAttrMaxThreadsPerMultiProcessor);
    properties->sharedMemPerMultiprocessor = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
    properties->sharedMemPerBlockOptin = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value) {
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || value > BLOCK_SHARED_OPTIN) return done(cudaErrorInvalidValue);
    std::lock_guard<std::recursive_mutex> lock(api_mutex);
    opted_in[kernel] = static_cast<size_t>(value);
    return cudaSuccess;
}

} // extern "C"
