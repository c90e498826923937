// The simulator's streams, capture, copies and memory: what works, and what fails as CUDA makes it fail.
#include "kernels/cuda/device.cuh"
#include "tests/cudasim/check.h"
#include "tests/cudasim/control.h"

namespace {

struct Padded {
    char small;
    double large;
};

__global__ void add_value(int *to, int value) { to[threadIdx.x] += value; }
__global__ void add_padded(int *to, Padded value) { to[threadIdx.x] += static_cast<int>(value.large) + value.small; }

cudaStream_t new_stream(unsigned flags = cudaStreamNonBlocking) {
    cudaStream_t stream;
    assert_int_equal(cudaStreamCreateWithFlags(&stream, flags), cudaSuccess);
    return stream;
}

void begin(cudaStream_t stream) {
    assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
}

cudaGraphExec_t end(cudaStream_t stream) {
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    assert_int_equal(cudaGraphInstantiate(&executable, graph), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    return executable;
}

// A call that is illegal in a capture fails, and so does the capture.
void expect_illegal(cudaError_t (*call)(cudaStream_t stream, cudaEvent_t event, int *device)) {
    DeviceArray<int> values(32);
    const cudaStream_t stream = new_stream();
    cudaEvent_t event;
    cudaGraph_t graph;
    cudaStreamCaptureStatus status;
    assert_int_equal(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    begin(stream);
    assert_int_equal(call(stream, event, values.get()), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaGetLastError(), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamIsCapturing(stream, &status), cudaSuccess);
    assert_int_equal(status, cudaStreamCaptureStatusInvalidated);
    LAUNCH(add_value, 1, 32, 0, stream, values.get(), 1);
    assert_int_equal(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    assert_null(graph);
    assert_int_equal(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
    begin(stream); // and the stream can be used again
    cudaGraphExecDestroy(end(stream));
    cudaEventDestroy(event);
    cudaStreamDestroy(stream);
}

} // namespace

TEST(a_capture_runs_when_it_is_launched) {
    DeviceArray<int> values(std::vector<int>(32, 0));
    std::vector<int> host(32, 5);
    const cudaStream_t stream = new_stream();
    begin(stream);
    int value = 3;
    assert_int_equal(cudaMemcpyAsync(values.get(), host.data(), 128, cudaMemcpyHostToDevice, stream), cudaSuccess);
    LAUNCH(add_value, 1, 32, 0, stream, values.get(), value);
    LAUNCH(add_value, 1, 16, 0, stream, values.get(), value);
    value = 1000; // the value of the call counts
    assert_int_equal(cudaMemsetAsync(values.get() + 31, 0, 4, stream), cudaSuccess);
    const uint64_t launches = cudasim_launches();
    const cudaGraphExec_t graph = end(stream);
    assert_int_equal(cudasim_launches(), launches);
    host.assign(32, 7); // memory counts as it is then
    for (int i = 0; i < 2; i++) assert_int_equal(cudaGraphLaunch(graph, stream), cudaSuccess);
    const std::vector<int> got = values.copy();
    for (int i = 0; i < 32; i++) assert_int_equal(got[i], i == 31 ? 0 : i < 16 ? 13 : 10);
    assert_int_equal(cudasim_launches(), launches + 4);
    assert_int_equal(cudaGraphExecDestroy(graph), cudaSuccess);
    assert_int_equal(cudaGraphLaunch(graph, stream), cudaErrorInvalidValue);
    cudaStreamDestroy(stream);
}

TEST(allocation_in_a_capture) {
    expect_illegal([](cudaStream_t, cudaEvent_t, int *) {
        void *memory;
        return cudaMalloc(&memory, 16);
    });
    expect_illegal([](cudaStream_t, cudaEvent_t, int *device) { return cudaFree(device); });
    expect_illegal([](cudaStream_t, cudaEvent_t, int *) {
        void *memory;
        return cudaHostAlloc(&memory, 16, cudaHostAllocDefault);
    });
}

TEST(synchronisation_in_a_capture) {
    expect_illegal([](cudaStream_t stream, cudaEvent_t, int *) { return cudaStreamSynchronize(stream); });
    expect_illegal([](cudaStream_t, cudaEvent_t, int *) { return cudaDeviceSynchronize(); });
    expect_illegal([](cudaStream_t, cudaEvent_t event, int *) { return cudaEventSynchronize(event); });
    expect_illegal([](cudaStream_t, cudaEvent_t event, int *) { return cudaEventQuery(event); });
}

TEST(synchronous_copies_in_a_capture) {
    expect_illegal([](cudaStream_t, cudaEvent_t, int *device) {
        int host[32] = {};
        return cudaMemcpy(device, host, sizeof host, cudaMemcpyHostToDevice);
    });
    expect_illegal([](cudaStream_t, cudaEvent_t, int *device) { return cudaMemset(device, 0, 4); });
}

TEST(captures_begin_and_end_where_they_may) {
    const cudaStream_t stream = new_stream(cudaStreamDefault);
    cudaGraph_t graph;
    DeviceArray<int> values(32);
    assert_int_equal(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorIllegalState);
    begin(stream);
    assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaErrorIllegalState);
    LAUNCH(add_value, 1, 32, 0, nullptr, values.get(), 1); // the legacy stream would wait for this one
    assert_int_equal(cudaGetLastError(), cudaErrorStreamCaptureImplicit);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    assert_int_equal(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
    cudaStreamDestroy(stream);
}

TEST(a_bad_launch_ends_a_capture) {
    const cudaStream_t stream = new_stream();
    DeviceArray<int> values(32);
    cudaGraph_t graph;
    begin(stream);
    LAUNCH(add_value, 0, 32, 0, stream, values.get(), 1);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    cudaGetLastError();
    cudaStreamDestroy(stream);
}

TEST(another_stream_joins_by_events) {
    DeviceArray<int> values(std::vector<int>(32, 0));
    const cudaStream_t stream = new_stream(), side = new_stream();
    cudaEvent_t fork, join;
    cudaGraph_t graph;
    assert_int_equal(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming), cudaSuccess);
    assert_int_equal(cudaEventCreateWithFlags(&join, cudaEventDisableTiming), cudaSuccess);
    for (bool joined : {true, false}) {
        begin(stream);
        assert_int_equal(cudaEventRecord(fork, stream), cudaSuccess);
        assert_int_equal(cudaStreamWaitEvent(side, fork), cudaSuccess);
        LAUNCH(add_value, 1, 32, 0, side, values.get(), 1);
        assert_int_equal(cudaEventRecord(join, side), cudaSuccess);
        assert_int_equal(cudaEventQuery(join), cudaErrorCapturedEvent);
        if (joined) assert_int_equal(cudaStreamWaitEvent(stream, join), cudaSuccess);
        assert_int_equal(cudaStreamEndCapture(stream, &graph), joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
        if (joined) cudaGraphDestroy(graph);
        cudaGetLastError();
    }
    LAUNCH(add_value, 1, 32, 0, side, values.get(), 1); // no longer part of a capture
    assert_int_equal(values.copy()[0], 1);
    begin(stream);
    assert_int_equal(cudaEventRecord(join, side), cudaSuccess);
    assert_int_equal(cudaStreamWaitEvent(stream, join), cudaErrorStreamCaptureIsolation);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    cudaGetLastError();
    for (const cudaEvent_t event : {fork, join}) cudaEventDestroy(event);
    for (const cudaStream_t s : {stream, side}) cudaStreamDestroy(s);
}

TEST(padding_of_arguments_is_not_compared) {
    DeviceArray<int> values(std::vector<int>(32, 0));
    const cudaStream_t stream = new_stream();
    const int graphs = cudasim_graph_count();
    for (int fill = 0; fill < 2; fill++) {
        Padded value;
        memset(&value, fill, sizeof value);
        value.small = 1;
        value.large = 2;
        asm volatile("" : : "r"(&value) : "memory"); // the compiler does not know what lies between the fields
        begin(stream);
        LAUNCH(add_padded, 1, 32, 0, stream, values.get(), value);
        cudaGraphExecDestroy(end(stream));
    }
    assert_int_equal(cudasim_graph_count(), graphs + 2);
    cudasim_compare_graphs(-2, -1);
    cudasim_compare_graphs(graphs, graphs + 1);
    cudaStreamDestroy(stream);
}

TEST(copies_stay_within_allocations) {
    DeviceArray<int> values(std::vector<int>(12, 1));
    int host[16] = {};
    assert_int_equal(cudaMemcpy(values.get(), host, 52, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(host, values.get() + 1, 48, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(host, values.get(), 48, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemset(host, 0, 4), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(host), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(host, values.get(), 48, cudaMemcpyDefault), cudaSuccess);
    assert_int_equal(host[11], 1);
}

TEST(copies_and_fills_of_rows) {
    DeviceArray<int> values(std::vector<int>(12, 1)); // 3 rows of 4
    int host[6] = {1, 2, 3, 4, 5, 6};
    const cudaStream_t stream = new_stream();
    assert_int_equal(cudaMemset2DAsync(values.get(), 16, 0, 12, 2, stream), cudaSuccess);
    assert_int_equal(cudaMemcpy2DAsync(values.get() + 1, 16, host, 8, 8, 3, cudaMemcpyHostToDevice, stream),
                     cudaSuccess);
    assert_int_equal(cudaMemcpy2DAsync(values.get(), 4, host, 8, 8, 3, cudaMemcpyHostToDevice, stream),
                     cudaErrorInvalidPitchValue);
    const int expected[12] = {0, 1, 2, 1, 0, 3, 4, 1, 1, 5, 6, 1};
    const std::vector<int> got = values.copy();
    for (int i = 0; i < 12; i++) assert_int_equal(got[i], expected[i]);
    cudaGetLastError();
    cudaStreamDestroy(stream);
}

TEST(memory_is_counted_poisoned_and_used_again) {
    size_t before, total, after;
    void *memory, *second, *too_much;
    assert_int_equal(cudaMemGetInfo(&before, &total), cudaSuccess);
    assert_int_equal(cudaMalloc(&memory, 1000), cudaSuccess);
    assert_int_equal(cudaMalloc(&second, 3), cudaSuccess);
    assert_int_equal(reinterpret_cast<uintptr_t>(second) % 256, 0);
    cudaMemGetInfo(&after, &total);
    assert_int_equal(before - after, 1003);
    float values[250];
    assert_int_equal(cudaMemcpy(values, memory, 1000, cudaMemcpyDeviceToHost), cudaSuccess);
    for (float x : values) assert_true(x != x);
    assert_int_equal(cudaMalloc(&too_much, total), cudaErrorMemoryAllocation);
    assert_null(too_much);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(cudaFree(memory), cudaSuccess);
    assert_int_equal(cudaFree(memory), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(second), cudaSuccess);
    cudaMemGetInfo(&after, &total);
    assert_int_equal(before, after);
    cudaGetLastError();
}

TEST(the_device_describes_itself) {
    cudaDeviceProp properties;
    int version = 0, count = 0;
    assert_int_equal(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
    assert_int_equal(properties.major, 9);
    assert_int_equal(properties.sharedMemPerBlockOptin, 227 << 10);
    assert_true(properties.totalGlobalMem > 0 && properties.multiProcessorCount > 0);
    assert_int_equal(cudaDriverGetVersion(&version), cudaSuccess);
    assert_int_equal(version, 13000);
    assert_int_equal(cudaGetDeviceCount(&count), cudaSuccess);
    assert_int_equal(count, 1);
    assert_int_equal(cudaSetDevice(1), cudaErrorInvalidDevice);
    assert_string_equal(cudaGetErrorName(cudaGetLastError()), "cudaErrorInvalidDevice");
}
