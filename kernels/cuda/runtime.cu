// The device: its stream, memory and copies.
#include "kernels/cuda/cuda.cuh"

#include <string.h>

static struct {
    cudaStream_t stream;
    char *scratch;
    int multiprocessors;
} device;

void cuda_require(cudaError_t error, const char *call, const char *file, int line) {
    if (error != cudaSuccess)
        DIE(EXIT_INTERNAL, "%s:%d: %s: %s (%s)", file, line, call, cudaGetErrorString(error), cudaGetErrorName(error));
}

cudaStream_t cuda_stream(void) { return device.stream; }
int cuda_multiprocessors(void) { return device.multiprocessors; }

void *cuda_scratch(size_t bytes) {
    REQUIRE(bytes <= CUDA_SCRATCH, "%zu bytes of scratch, at most %d", bytes, CUDA_SCRATCH);
    return device.scratch;
}

bool cuda_open(int64_t threads, Errors *errors) {
    (void)threads, (void)errors;
    if (device.stream) return true;
    CUDA(cudaStreamCreate(&device.stream));
    CUDA(cudaDeviceGetAttribute(&device.multiprocessors, cudaDevAttrMultiProcessorCount, 0));
    CUDA(cudaMalloc(&device.scratch, CUDA_SCRATCH));
    return true;
}

void cuda_close(void) {
    if (!device.stream) return;
    CUDA(cudaFree(device.scratch));
    CUDA(cudaStreamDestroy(device.stream));
    device.stream = NULL;
}

void *cuda_take_memory(size_t bytes) {
    void *memory;
    if (cudaMalloc(&memory, bytes) != cudaSuccess) return NULL;
    CUDA(cudaMemsetAsync(memory, 0, bytes, device.stream));
    return memory;
}

void cuda_return_memory(void *memory, size_t bytes) {
    (void)bytes;
    CUDA(cudaFree(memory));
}

void cuda_upload(Tensor out, const void *host) {
    CUDA(cudaMemcpyAsync(out.data, host, tensor_size_bytes(out), cudaMemcpyHostToDevice, device.stream));
    CUDA(cudaStreamSynchronize(device.stream));
}

void cuda_download(void *host, Tensor in) {
    CUDA(cudaMemcpyAsync(host, in.data, tensor_size_bytes(in), cudaMemcpyDeviceToHost, device.stream));
    CUDA(cudaStreamSynchronize(device.stream));
}

void cuda_finish(void) { CUDA(cudaStreamSynchronize(device.stream)); }
bool cuda_is_host(void) { return false; }
