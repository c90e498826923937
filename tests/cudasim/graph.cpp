// Streams, events, and stream capture: work for a capturing stream is kept with the values of its arguments and runs
// when its graph is launched, as often as that is. What CUDA refuses in a capture fails here too, and ends the capture.
#include "tests/cudasim/control.h"
#include "tests/cudasim/cudasim_internal.h"

#include <chrono>
#include <cstdio>
#include <memory>
#include <set>
#include <thread>

namespace cudasim {
namespace {

// One launch, copy, fill or library call.
struct Node {
    std::string name;  // "kernel add", "cudaMemcpyAsync"
    const char *file;  // of a launch
    int line;          //
    const void *code;  // of a call: its return address
    std::string shape; // grid, block and dynamic shared memory of a launch
    std::vector<std::string> arguments;
    std::function<void()> run;
    const void *owner = nullptr;
};

// Work that has begun and whose results nobody has waited for.
struct Late {
    uint64_t work; // its number in its stream
    std::vector<Span> spans;
    std::function<void()> start, land;
    bool landed = true; // not between the two
};
using LateList = std::vector<std::shared_ptr<Late>>;

struct Capture {
    cudaStream_t origin;
    cudaStreamCaptureMode mode;
    std::thread::id thread;
    std::vector<Node> nodes;
    std::set<cudaStream_t> forked;   // streams that joined the capture by an event
    std::set<cudaStream_t> unjoined; // of them, those with work that the origin does not wait for
    bool invalid;
};

} // namespace
} // namespace cudasim

struct CUstream_st {
    unsigned flags;
    std::shared_ptr<cudasim::Capture> capture; // none: not capturing
    uint64_t work;                             // recorded so far
    bool held;                                 // a call of a library is not made yet; any thread
    cudasim::LateList late;                    // of this stream; in a capture, as it will be when that is launched
};
struct CUevent_st {
    unsigned flags;
    bool recorded;
    std::chrono::steady_clock::time_point time;
    std::weak_ptr<cudasim::Capture> capture; // in which it was recorded last
    bool captured;
    cudaStream_t stream;
    uint64_t work; // of the stream when it was recorded
};
struct CUgraph_st {
    std::shared_ptr<const std::vector<cudasim::Node>> nodes;
};
struct CUgraphExec_st {
    std::shared_ptr<const std::vector<cudasim::Node>> nodes;
};

namespace cudasim {
namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

std::vector<std::shared_ptr<Capture>> captures; // that have not ended
std::set<const void *> alive;                   // streams, events, graphs
std::set<cudaStream_t> streams;
std::set<cudaGraphExec_t> executables;
std::vector<std::shared_ptr<const std::vector<Node>>> instantiated;

template <class T> T *make_handle(const T &value) {
    T *handle = new T(value);
    alive.insert(handle);
    return handle;
}
template <class T> cudaError_t drop_handle(T *handle) {
    Lock lock(api_mutex);
    if (!alive.erase(handle)) return done(cudaErrorInvalidResourceHandle);
    delete handle;
    return cudaSuccess;
}

cudaError_t end_capture(Capture &capture, cudaError_t error) {
    capture.invalid = true;
    return done(error);
}

void keep(cudaStream_t stream, Node node) {
    stream->work++;
    if (stream != stream->capture->origin) stream->capture->unjoined.insert(stream);
    stream->capture->nodes.push_back(std::move(node));
}

cudaError_t error_of_admission(cudaStream_t stream) {
    if (stream && !alive.count(stream)) return done(cudaErrorInvalidResourceHandle);
    if (!stream) { // the legacy stream waits for every stream that does not opt out
        for (const auto &capture : captures)
            if (!(capture->origin->flags & cudaStreamNonBlocking))
                return end_capture(*capture, cudaErrorStreamCaptureImplicit);
        return cudaSuccess;
    }
    if (__atomic_load_n(&stream->held, __ATOMIC_SEQ_CST))
        fault("work is queued behind a call of NCCL that is not made yet: ask ncclCommGetAsyncError until it is");
    if (stream->capture && stream->capture->invalid) return done(cudaErrorStreamCaptureInvalidated);
    return cudaSuccess;
}

} // namespace

bool forbidden_in_capture() {
    bool forbidden = false;
    for (const auto &capture : captures) {
        if (capture->mode == cudaStreamCaptureModeRelaxed) continue;
        const bool own = capture->thread == std::this_thread::get_id();
        if (capture->mode == cudaStreamCaptureModeThreadLocal && !own) continue;
        end_capture(*capture, cudaErrorStreamCaptureUnsupported);
        forbidden = true;
    }
    return forbidden;
}

Admission admit(cudaStream_t stream) {
    Lock lock(api_mutex);
    if (current) fault("work is queued from inside a kernel");
    if (error_of_admission(stream) != cudaSuccess) return Admission::refused;
    return stream && stream->capture ? Admission::recorded : Admission::now;
}

void record(cudaStream_t stream, const Launch &launch, std::vector<std::string> values) {
    Lock lock(api_mutex);
    const cudaError_t error = check_launch(launch);
    if (error) {
        end_capture(*stream->capture, error);
        return;
    }
    const std::shared_ptr<char[]> arguments(new char[launch.argument_bytes]);
    memcpy(arguments.get(), launch.arguments, launch.argument_bytes);
    const std::string shape = value_bytes(launch.grid) + value_bytes(launch.block) + value_bytes(launch.dynamic_bytes);
    keep(stream, {std::string("kernel ") + launch.name, launch.file, launch.line, nullptr, shape, std::move(values),
                  [launch, arguments] {
                      Launch replayed = launch;
                      replayed.arguments = arguments.get();
                      run(replayed);
                  }});
}

cudaError_t submit(cudaStream_t stream, const char *name, const void *code, std::vector<std::string> values,
                   std::function<void()> work) {
    Lock lock(api_mutex);
    const Admission admission = admit(stream);
    if (admission == Admission::refused) return cudaPeekAtLastError();
    if (admission == Admission::now)
        work();
    else
        keep(stream, {name, nullptr, 0, code, "", std::move(values), std::move(work)});
    return cudaSuccess;
}

// ---- late results

namespace {

void land_all(const LateList &list) {
    for (const auto &late : list) {
        if (!late->landed) late->land();
        late->landed = true;
    }
}

// Takes from a stream's list what `chosen` says.
template <class F> LateList take_late(cudaStream_t stream, F chosen) {
    LateList taken, rest;
    for (auto &late : stream->late) (chosen(*late) ? taken : rest).push_back(late);
    stream->late = rest;
    return taken;
}

bool touch(const std::vector<Span> &a, const std::vector<Span> &b) {
    for (const Span &x : a)
        for (const Span &y : b)
            if (x.start < y.start + y.bytes && y.start < x.start + x.bytes) return true;
    return false;
}

// The stream goes on behind the event: what lies before that lands, now or when the capture is launched.
void land_before(cudaStream_t stream, cudaEvent_t event) {
    if (!event->stream || !alive.count(event->stream) || event->stream == stream) return;
    const LateList list = take_late(event->stream, [event](const Late &late) { return late.work <= event->work; });
    if (!stream || !stream->capture) land_all(list);
    else if (!list.empty())
        stream->capture->nodes.push_back(
            {"cudaStreamWaitEvent", nullptr, 0, nullptr, "", {}, [list] { land_all(list); }});
}

} // namespace

cudaError_t submit_late(cudaStream_t stream, const LibraryCall &call, std::vector<std::string> values,
                        std::vector<Span> spans, std::function<void()> start, std::function<void()> land) {
    Lock lock(api_mutex);
    const Admission admission = admit(stream);
    if (admission == Admission::refused) return cudaPeekAtLastError();
    const LateList before = take_late(stream, [&spans](const Late &late) { return touch(late.spans, spans); });
    const auto late =
        std::make_shared<Late>(Late{stream->work + 1, std::move(spans), std::move(start), std::move(land)});
    const auto run = [before, late] {
        land_all(before);
        late->start();
        late->landed = false;
    };
    if (admission == Admission::recorded)
        keep(stream, {call.name, nullptr, 0, call.code, "", std::move(values), run, call.owner});
    else {
        stream->work++;
        run();
    }
    stream->late.push_back(late);
    return cudaSuccess;
}

void hold_stream(cudaStream_t stream, bool hold) { __atomic_store_n(&stream->held, hold, __ATOMIC_SEQ_CST); }

void land_everything() {
    Lock lock(api_mutex);
    for (const cudaStream_t stream : streams)
        if (!stream->capture) land_all(take_late(stream, [](const Late &) { return true; }));
}

bool captures_beside(cudaStream_t stream) {
    Lock lock(api_mutex);
    for (const auto &capture : captures)
        if (capture->thread == std::this_thread::get_id() && stream->capture != capture) return true;
    return false;
}

bool held_by_graphs(const void *owner) {
    Lock lock(api_mutex);
    for (const cudaGraphExec_t executable : executables)
        for (const Node &node : *executable->nodes)
            if (node.owner == owner) return true;
    return false;
}

// ---- two recordings of the same work

namespace {

std::string place_of(const Node &node) {
    return node.file ? std::string(node.file) + ":" + std::to_string(node.line) : source_line(node.code);
}

bool same_call(const Node &a, const Node &b) {
    return a.name == b.name && a.line == b.line && a.code == b.code && a.arguments.size() == b.arguments.size() &&
           (a.file == b.file || !strcmp(a.file, b.file));
}

std::string hexadecimal(const std::string &bytes) {
    std::string text;
    char digits[3];
    for (size_t i = 0; i < bytes.size() && i < 64; i++) {
        snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(bytes[i]));
        text += digits;
    }
    return text;
}

void compare_nodes(const Node &a, const Node &b, size_t number) {
    if (!same_call(a, b))
        fault("two recordings differ: call %zu is %s (%s) in one, %s (%s) in the other", number, a.name.c_str(),
              place_of(a).c_str(), b.name.c_str(), place_of(b).c_str());
    if (a.shape != b.shape)
        fault("%s: grid, block or shared memory differs between two recordings (%s)", a.name.c_str(),
              place_of(a).c_str());
    for (size_t i = 0; i < a.arguments.size(); i++)
        if (a.arguments[i] != b.arguments[i])
            fault("%s, argument %zu differs between two recordings (%s): a value of one step was baked into the graph; "
                  "bytes %s and %s",
                  a.name.c_str(), i + 1, place_of(a).c_str(), hexadecimal(a.arguments[i]).c_str(),
                  hexadecimal(b.arguments[i]).c_str());
}

const std::vector<Node> &graph_numbered(int number) {
    const int count = static_cast<int>(instantiated.size());
    const int index = number < 0 ? count + number : number;
    if (index < 0 || index >= count) fault("there is no graph %d; %d were instantiated", number, count);
    return *instantiated[index];
}

} // namespace
} // namespace cudasim

using namespace cudasim;

extern "C" {

int cudasim_graph_count(void) { return static_cast<int>(instantiated.size()); }

void cudasim_compare_graphs(int first, int second) {
    Lock lock(api_mutex);
    const std::vector<Node> &a = graph_numbered(first), &b = graph_numbered(second);
    for (size_t i = 0; i < std::min(a.size(), b.size()); i++) compare_nodes(a[i], b[i], i + 1);
    if (a.size() != b.size()) fault("two recordings differ: one has %zu calls, the other %zu", a.size(), b.size());
}

// ---- streams

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    Lock lock(api_mutex);
    *stream = make_handle(CUstream_st{flags, nullptr, 0, false, {}});
    streams.insert(*stream);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int) {
    return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    Lock lock(api_mutex);
    if (streams.erase(stream)) land_all(stream->late);
    return drop_handle(stream);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    Lock lock(api_mutex);
    if (stream && !alive.count(stream)) return done(cudaErrorInvalidResourceHandle);
    if (forbidden_in_capture()) return cudaErrorStreamCaptureUnsupported;
    if (stream) land_all(take_late(stream, [](const Late &) { return true; }));
    else land_everything();
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
cudaError_t cudaDeviceSynchronize() { return cudaStreamSynchronize(nullptr); }

// A stream that waits for an event of a capture joins it; the origin that waits for a forked stream's last work joins
// that.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    Lock lock(api_mutex);
    if (!alive.count(event)) return done(cudaErrorInvalidResourceHandle);
    const cudaError_t error = error_of_admission(stream);
    if (error) return error;
    const std::shared_ptr<Capture> capture = event->capture.lock();
    if (stream && stream->capture && stream->capture != capture)
        return end_capture(*stream->capture, capture ? cudaErrorStreamCaptureMerge : cudaErrorStreamCaptureIsolation);
    if (!capture && event->captured) return done(cudaErrorCapturedEvent);
    if (!capture) land_before(stream, event);
    if (!capture) return cudaSuccess;
    if (!stream) return end_capture(*capture, cudaErrorStreamCaptureImplicit);
    if (stream == capture->origin) {
        if (event->work == event->stream->work) capture->unjoined.erase(event->stream);
    } else if (!stream->capture) {
        land_all(take_late(stream, [](const Late &) { return true; }));
        stream->capture = capture;
        capture->forked.insert(stream);
        capture->unjoined.insert(stream);
    }
    land_before(stream, event);
    return cudaSuccess;
}

// ---- events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    Lock lock(api_mutex);
    CUevent_st fresh{};
    fresh.flags = flags;
    *event = make_handle(fresh);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return drop_handle(event); }

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    Lock lock(api_mutex);
    if (!alive.count(event)) return done(cudaErrorInvalidResourceHandle);
    const cudaError_t error = error_of_admission(stream);
    if (error) return error;
    event->captured = stream && stream->capture;
    event->capture.reset();
    if (event->captured) event->capture = stream->capture;
    event->recorded = !event->captured;
    event->time = std::chrono::steady_clock::now();
    event->stream = stream;
    event->work = stream ? stream->work : 0;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    Lock lock(api_mutex);
    if (!alive.count(event)) return done(cudaErrorInvalidResourceHandle);
    if (event->captured) return done(cudaErrorCapturedEvent);
    if (forbidden_in_capture()) return cudaErrorStreamCaptureUnsupported;
    land_before(nullptr, event);
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    Lock lock(api_mutex);
    for (const cudaEvent_t event : {start, end})
        if (!alive.count(event) || !event->recorded || event->flags & cudaEventDisableTiming)
            return done(cudaErrorInvalidResourceHandle);
    *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
    return cudaSuccess;
}

// ---- capture

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    Lock lock(api_mutex);
    if (!stream) return done(cudaErrorStreamCaptureUnsupported);
    if (!alive.count(stream)) return done(cudaErrorInvalidResourceHandle);
    if (stream->capture) return done(cudaErrorIllegalState);
    stream->capture = std::make_shared<Capture>(Capture{stream, mode, std::this_thread::get_id(), {}, {}, {}, false});
    captures.push_back(stream->capture);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    Lock lock(api_mutex);
    *graph = nullptr;
    if (!stream || !alive.count(stream)) return done(cudaErrorInvalidResourceHandle);
    const std::shared_ptr<Capture> capture = stream->capture;
    if (!capture) return done(cudaErrorIllegalState);
    if (capture->origin != stream) return end_capture(*capture, cudaErrorStreamCaptureUnmatched);
    if (capture->thread != std::this_thread::get_id() && capture->mode != cudaStreamCaptureModeRelaxed)
        return done(cudaErrorStreamCaptureWrongThread);
    for (const cudaStream_t forked : capture->forked)
        if (alive.count(forked)) forked->capture.reset(), forked->late.clear();
    stream->capture.reset();
    captures.erase(std::find(captures.begin(), captures.end(), capture));
    if (capture->invalid) return done(cudaErrorStreamCaptureInvalidated);
    if (!capture->unjoined.empty()) return done(cudaErrorStreamCaptureUnjoined);
    *graph = make_handle(CUgraph_st{std::make_shared<const std::vector<Node>>(std::move(capture->nodes))});
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
    Lock lock(api_mutex);
    *status = cudaStreamCaptureStatusNone;
    if (!stream) return cudaSuccess;
    if (!alive.count(stream)) return done(cudaErrorInvalidResourceHandle);
    if (stream->capture)
        *status = stream->capture->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long) {
    Lock lock(api_mutex);
    if (!alive.count(graph)) return done(cudaErrorInvalidValue);
    *executable = make_handle(CUgraphExec_st{graph->nodes});
    executables.insert(*executable);
    instantiated.push_back(graph->nodes);
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream) {
    Lock lock(api_mutex);
    if (!alive.count(executable)) return done(cudaErrorInvalidValue);
    return error_of_admission(stream);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    Lock lock(api_mutex);
    if (!alive.count(executable)) return done(cudaErrorInvalidValue);
    const Admission admission = admit(stream);
    if (admission == Admission::refused) return cudaPeekAtLastError();
    const auto nodes = executable->nodes;
    if (admission == Admission::recorded) {
        for (const Node &node : *nodes) keep(stream, node);
        return cudaSuccess;
    }
    const DeviceAccess access; // once for all
    for (const Node &node : *nodes) node.run();
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return drop_handle(graph); }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    Lock lock(api_mutex);
    executables.erase(executable);
    return drop_handle(executable);
}

} // extern "C"
