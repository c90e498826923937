// Stand-ins for the CUDA runtime calls the project uses, with the prototypes of the real header.
// Everything is synchronous: a stream is a number, an event is a time.
#include "tests/cudasim/cudasim_internal.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

struct CUevent_st {
  std::chrono::steady_clock::time_point time;
};

namespace cudasim {
namespace {

constexpr size_t kAlignment = 256;  // what cudaMalloc promises
// AddressSanitizer puts red zones around allocations by itself.
constexpr size_t kGuard = CUDASIM_ASAN ? 0 : 256;
constexpr unsigned char kGuardByte = 0xa5;

std::mutex mutex;
std::map<void*, size_t> allocations;
std::map<const void*, size_t> opted_in;
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t done(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

bool guard_intact(const void* guard) {
  const auto* bytes = static_cast<const unsigned char*>(guard);
  return std::all_of(bytes, bytes + kGuard, [](unsigned char b) { return b == kGuardByte; });
}

void* allocate(size_t bytes) {
  const size_t total = (bytes + 2 * kGuard + kAlignment - 1) / kAlignment * kAlignment;
  char* raw = static_cast<char*>(CUDASIM_ASAN ? nullptr : aligned_alloc(kAlignment, total));
  // Not rounded up under AddressSanitizer, so that the red zone begins at the very next byte.
  if (CUDASIM_ASAN && posix_memalign(reinterpret_cast<void**>(&raw), kAlignment, bytes ? bytes : 1))
    return nullptr;
  if (!raw) return nullptr;
  memset(raw, kGuardByte, kGuard);
  memset(raw + kGuard + bytes, kGuardByte, kGuard);
  fill_with_poison(raw + kGuard, bytes);
  std::lock_guard<std::mutex> lock(mutex);
  allocations[raw + kGuard] = bytes;
  return raw + kGuard;
}

cudaError_t release(void* pointer) {
  if (!pointer) return cudaSuccess;
  check_allocations("cudaFree");
  std::lock_guard<std::mutex> lock(mutex);
  if (!allocations.erase(pointer)) return cudaErrorInvalidValue;
  free(static_cast<char*>(pointer) - kGuard);
  return cudaSuccess;
}

}  // namespace

size_t opted_in_shared(const void* kernel) {
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = opted_in.find(kernel);
  return found == opted_in.end() ? 0 : found->second;
}

bool is_device_memory(const void* address) {
  std::lock_guard<std::mutex> lock(mutex);
  auto after = allocations.upper_bound(const_cast<void*>(address));
  if (after == allocations.begin()) return false;
  --after;
  return static_cast<const char*>(address) < static_cast<const char*>(after->first) + after->second;
}

void set_last_error(cudaError_t error) { last_error = error; }

void check_allocations(const char* after) {
  if (!kGuard) return;
  std::lock_guard<std::mutex> lock(mutex);
  for (const auto& [pointer, bytes] : allocations) {
    const char* start = static_cast<const char*>(pointer);
    if (!guard_intact(start - kGuard))
      fault("%s: a write before the start of a device allocation of %zu bytes", after, bytes);
    if (!guard_intact(start + bytes))
      fault("%s: a write past the end of a device allocation of %zu bytes", after, bytes);
  }
}

}  // namespace cudasim

using cudasim::done;

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  *pointer = cudasim::allocate(bytes);
  return done(*pointer ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) { return cudaMalloc(pointer, bytes); }
cudaError_t cudaFree(void* pointer) { return done(cudasim::release(pointer)); }
cudaError_t cudaFreeHost(void* pointer) { return cudaFree(pointer); }
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  memmove(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  memset(to, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  return cudaMemset(to, value, bytes);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  static std::atomic<uintptr_t> next{1};
  *stream = reinterpret_cast<cudaStream_t>(next++);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  return done(cudaErrorNotSupported);
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new CUevent_st{};
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  event->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudasim::last_error;
  cudasim::last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() { return cudasim::last_error; }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    default:
      return "other CUDA error";
  }
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return done(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }

// The limits of an sm_90 device with few multiprocessors, so that persistent grids stay small.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      break;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = 48 << 10;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = 227 << 10;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      break;
    default:
      return done(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || value > 227 << 10) return done(cudaErrorInvalidValue);
  std::lock_guard<std::mutex> lock(cudasim::mutex);
  cudasim::opted_in[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

}  // extern "C"
