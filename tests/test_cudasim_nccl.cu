// The simulator's NCCL by itself: processes that call it together, and what it must report.
#include "tests/cudasim/check.h"
#include "tests/cudasim/control.h"

#include <nccl.h>
#include <pthread.h>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

constexpr int RANKS = 4, FAULT = 86, SECONDS = 240;
constexpr size_t SIZES[] = {1, 63, 1000, 150001}; // the last takes several pieces

// In a rank: its process ends where something is wrong.
#define NEED(condition)                                                                        \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "rank %d: line %d: not %s\n", self.rank, __LINE__, #condition);    \
            _exit(1);                                                                          \
        }                                                                                      \
    } while (0)

struct Rank {
    int rank, ranks;
    ncclComm_t comm;
    cudaStream_t compute, stream;
    cudaEvent_t queued, done;

    ncclResult_t settle(ncclResult_t result) const {
        while (result == ncclInProgress && ncclCommGetAsyncError(comm, &result) == ncclSuccess) usleep(100);
        return result;
    }
    void begin() const {
        cudaEventRecord(queued, compute);
        cudaStreamWaitEvent(stream, queued);
        ncclGroupStart();
    }
    void end() const {
        const Rank &self = *this;
        NEED(settle(ncclGroupEnd()) == ncclSuccess);
        NEED(cudaEventRecord(done, stream) == cudaSuccess);
    }
    void wait() const { cudaStreamWaitEvent(compute, done); }
};

void open(Rank &self, ncclUniqueId id) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    NEED(cudaSetDevice(self.rank) == cudaSuccess);
    NEED(self.settle(ncclCommInitRankConfig(&self.comm, self.ranks, id, self.rank, &config)) == ncclSuccess);
    cudaStreamCreateWithFlags(&self.compute, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&self.stream, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&self.queued, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&self.done, cudaEventDisableTiming);
}

void close(Rank &self) {
    NEED(self.settle(ncclCommFinalize(self.comm)) == ncclSuccess);
    NEED(ncclCommDestroy(self.comm) == ncclSuccess);
}

using Body = void (*)(Rank &self, ncclUniqueId id);

[[noreturn]] void be_rank(Body body, int rank, int ranks, ncclUniqueId id, int errors) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(SECONDS);
    dup2(errors, STDERR_FILENO);
    Rank self{rank, ranks, nullptr, nullptr, nullptr, nullptr, nullptr};
    body(self, id);
    _exit(0);
}

struct Outcome {
    int status[RANKS];
    std::string printed;
    bool told(const char *text) const { return printed.find(text) != std::string::npos; }
};

// Processes that do `body` together: their exit codes, -1 for a signal, and what they say.
Outcome run_ranks(int ranks, Body body) {
    Outcome outcome;
    ncclUniqueId id;
    int ends[2];
    pid_t children[RANKS];
    setenv("CUDASIM_DEVICES", std::to_string(RANKS).c_str(), 1);
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    assert_int_equal(pipe(ends), 0);
    fflush(nullptr);
    for (int r = 0; r < ranks; r++)
        if ((children[r] = fork()) == 0) be_rank(body, r, ranks, id, ends[1]);
    ::close(ends[1]);
    char text[4096];
    for (ssize_t n; (n = read(ends[0], text, sizeof text)) > 0;) outcome.printed.append(text, static_cast<size_t>(n));
    ::close(ends[0]);
    for (int r = 0; r < ranks; r++) {
        int status;
        assert_int_equal(waitpid(children[r], &status, 0), children[r]);
        outcome.status[r] = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    return outcome;
}

void expect_good(int ranks, Body body) {
    const Outcome outcome = run_ranks(ranks, body);
    for (int r = 0; r < ranks; r++)
        if (outcome.status[r]) fail_msg("rank %d of %d: %d\n%s", r, ranks, outcome.status[r], outcome.printed.c_str());
}

// Every rank that does not end well ends with `status`, at least one does, and the words are told.
void expect_bad(int ranks, Body body, int status, const std::vector<const char *> &words) {
    const Outcome outcome = run_ranks(ranks, body);
    int count = 0;
    for (int r = 0; r < ranks; r++) count += outcome.status[r] == status;
    for (const char *word : words)
        if (!count || !outcome.told(word))
            fail_msg("no \"%s\" with status %d in\n%s", word, status, outcome.printed.c_str());
}

// ---- numbers ----

template <class T> struct TypeOf;
template <> struct TypeOf<float> { static constexpr ncclDataType_t type = ncclFloat32; };
template <> struct TypeOf<double> { static constexpr ncclDataType_t type = ncclFloat64; };
template <> struct TypeOf<__nv_bfloat16> { static constexpr ncclDataType_t type = ncclBfloat16; };

// Small whole numbers, whose sums are exact.
template <class T> T value(int rank, size_t i) { return T(static_cast<float>((i * 7 + 1) % 13 * (rank + 1))); }
template <class T> T sum(int ranks, size_t i) {
    float total = 0;
    for (int r = 0; r < ranks; r++) total += static_cast<float>(value<T>(r, i));
    return T(total);
}
template <class T> std::vector<T> values(int rank, size_t count) {
    std::vector<T> list(count);
    for (size_t i = 0; i < count; i++) list[i] = value<T>(rank, i);
    return list;
}

// On the device; cmocka's checks are not for ranks.
template <class T> struct Buffer {
    T *data = nullptr;
    size_t count;
    explicit Buffer(const std::vector<T> &list) : count(list.size()) {
        cudaMalloc(&data, count * sizeof(T));
        cudaMemcpy(data, list.data(), count * sizeof(T), cudaMemcpyHostToDevice);
    }
    ~Buffer() { cudaFree(data); }
    Buffer(const Buffer &) = delete;
    std::vector<T> copy() const {
        std::vector<T> list(count);
        cudaMemcpy(list.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost);
        return list;
    }
};

template <class T> bool same(T a, T b) { return static_cast<double>(a) == static_cast<double>(b); }

template <class T> void sum_everywhere(Rank &self, size_t count, bool in_place) {
    const ncclDataType_t type = TypeOf<T>::type;
    Buffer<T> in(values<T>(self.rank, count)), out(std::vector<T>(count, T(0.0f)));
    T *to = in_place ? in.data : out.data;
    self.begin();
    NEED(ncclAllReduce(in.data, to, count, type, ncclSum, self.comm, self.stream) == ncclSuccess);
    self.end();
    self.wait();
    const std::vector<T> got = in_place ? in.copy() : out.copy(), kept = in.copy();
    for (size_t i = 0; i < count; i++) NEED(same(got[i], sum<T>(self.ranks, i)));
    for (size_t i = 0; i < count && !in_place; i++) NEED(same(kept[i], value<T>(self.rank, i)));
}

template <class T> void scatter_and_gather(Rank &self, size_t count) {
    const ncclDataType_t type = TypeOf<T>::type;
    const size_t all = count * self.ranks, own = count * self.rank;
    Buffer<T> buffer(values<T>(self.rank, all));
    self.begin();
    NEED(ncclReduceScatter(buffer.data, buffer.data + own, count, type, ncclSum, self.comm, self.stream) ==
         ncclSuccess);
    self.end();
    self.wait();
    std::vector<T> got = buffer.copy();
    for (size_t i = own; i < own + count; i++) NEED(same(got[i], sum<T>(self.ranks, i)));
    for (size_t i = 0; i < all; i++) // what NCCL leaves undefined is poison
        NEED((i >= own && i < own + count) || !same(got[i], value<T>(self.rank, i)));
    self.begin();
    NEED(ncclAllGather(buffer.data + own, buffer.data, count, type, self.comm, self.stream) == ncclSuccess);
    self.end();
    self.wait();
    got = buffer.copy();
    for (size_t i = 0; i < all; i++) NEED(same(got[i], sum<T>(self.ranks, i)));
}

// A group of calls with every rank as the root.
template <class T> void reduce_and_broadcast(Rank &self, size_t count) {
    const ncclDataType_t type = TypeOf<T>::type;
    Buffer<T> buffer(values<T>(self.rank, count * self.ranks));
    self.begin();
    for (int r = 0; r < self.ranks; r++) {
        T *at = buffer.data + count * r;
        NEED(ncclReduce(at, at, count, type, ncclSum, r, self.comm, self.stream) == ncclSuccess);
    }
    self.end();
    self.wait();
    std::vector<T> got = buffer.copy();
    for (size_t i = count * self.rank; i < count * (self.rank + 1); i++) NEED(same(got[i], sum<T>(self.ranks, i)));
    self.begin();
    for (int r = 0; r < self.ranks; r++) {
        T *at = buffer.data + count * r;
        NEED(ncclBroadcast(at, at, count, type, r, self.comm, self.stream) == ncclSuccess);
    }
    self.end();
    self.wait();
    got = buffer.copy();
    for (size_t i = 0; i < count * self.ranks; i++) NEED(same(got[i], sum<T>(self.ranks, i)));
}

template <class T> void every_operation(Rank &self, size_t count) {
    sum_everywhere<T>(self, count, true);
    sum_everywhere<T>(self, count, false);
    scatter_and_gather<T>(self, count);
    reduce_and_broadcast<T>(self, count);
}

void operations(Rank &self, ncclUniqueId id) {
    open(self, id);
    for (size_t count : SIZES) every_operation<float>(self, count);
    every_operation<double>(self, 1000);
    every_operation<__nv_bfloat16>(self, 1000);
    close(self);
}

// ---- captures ----

__global__ void double_all(float *values, int count) {
    if (static_cast<int>(threadIdx.x) < count) values[threadIdx.x] *= 2;
}

// values = 2 * sum of (2 * values), three times.
void captured(Rank &self, ncclUniqueId id) {
    constexpr int COUNT = 40;
    open(self, id);
    {
        Buffer<float> buffer(values<float>(self.rank, COUNT));
        cudaGraph_t graph;
        cudaGraphExec_t executable;
        NEED(cudaStreamBeginCapture(self.compute, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
        LAUNCH(double_all, 1, 64, 0, self.compute, buffer.data, COUNT);
        self.begin();
        NEED(ncclAllReduce(buffer.data, buffer.data, COUNT, ncclFloat32, ncclSum, self.comm, self.stream) ==
             ncclSuccess);
        self.end();
        self.wait();
        LAUNCH(double_all, 1, 64, 0, self.compute, buffer.data, COUNT);
        NEED(cudaStreamEndCapture(self.compute, &graph) == cudaSuccess);
        NEED(cudaGraphInstantiate(&executable, graph) == cudaSuccess);
        const std::vector<float> before = buffer.copy();
        for (int i = 0; i < COUNT; i++) NEED(before[i] == value<float>(self.rank, i)); // nothing ran
        float factor = 1;
        for (int turn = 0; turn < 3; turn++) {
            NEED(cudaGraphLaunch(executable, self.compute) == cudaSuccess);
            const std::vector<float> got = buffer.copy();
            factor *= turn ? 4.0f * static_cast<float>(self.ranks) : 4.0f;
            for (int i = 0; i < COUNT; i++) NEED(got[i] == factor * sum<float>(self.ranks, i));
        }
        sum_everywhere<float>(self, COUNT, true); // and outside
        cudaGraphExecDestroy(executable);
        cudaGraphDestroy(graph);
    }
    close(self);
}

// What has not been waited for is poison; what the call does not change may be read.
void unwaited(Rank &self, ncclUniqueId id) {
    constexpr int COUNT = 10;
    open(self, id);
    Buffer<float> all(values<float>(self.rank, COUNT * self.ranks)), total(values<float>(self.rank, COUNT));
    float *own = all.data + COUNT * self.rank;
    self.begin();
    NEED(ncclAllGather(own, all.data, COUNT, ncclFloat32, self.comm, self.stream) == ncclSuccess);
    NEED(ncclAllReduce(total.data, total.data, COUNT, ncclFloat32, ncclSum, self.comm, self.stream) == ncclSuccess);
    self.end();
    std::vector<float> got = all.copy();
    for (int i = 0; i < COUNT * self.ranks; i++) NEED(std::isnan(got[i]) == (i / COUNT != self.rank));
    got = total.copy();
    for (int i = 0; i < COUNT; i++) NEED(std::isnan(got[i]));
    cudaStreamSynchronize(self.compute); // which does not wait for the other stream
    NEED(std::isnan(total.copy()[0]));
    self.wait();
    got = total.copy();
    for (int i = 0; i < COUNT; i++) NEED(got[i] == sum<float>(self.ranks, i));
    got = all.copy();
    for (int i = 0; i < COUNT * self.ranks; i++) NEED(got[i] == value<float>(i / COUNT, i));
    close(self);
}

// ---- what must be reported ----

// Rank 1 calls something else than the others: by `difference`.
template <int DIFFERENCE> void different(Rank &self, ncclUniqueId id) {
    open(self, id);
    Buffer<float> buffer(values<float>(self.rank, 100));
    const bool odd = self.rank == 1;
    const size_t count = odd && DIFFERENCE == 0 ? 9 : 8;
    self.begin();
    if (odd && DIFFERENCE == 1) ncclBroadcast(buffer.data, buffer.data, count, ncclFloat32, 0, self.comm, self.stream);
    else if (odd && DIFFERENCE == 2)
        ncclReduce(buffer.data, buffer.data, count, ncclFloat64, ncclSum, 1, self.comm, self.stream);
    else if (odd && DIFFERENCE == 3)
        ncclReduce(buffer.data, buffer.data, count, ncclFloat32, ncclSum, 0, self.comm, self.stream);
    else ncclReduce(buffer.data, buffer.data, count, ncclFloat32, ncclSum, 1, self.comm, self.stream);
    if (odd && DIFFERENCE == 4)
        ncclReduce(buffer.data + 50, buffer.data + 50, 8, ncclFloat32, ncclSum, 1, self.comm, self.stream);
    self.end();
}

// Waits for an error of a communicator, which it returns, and aborts that.
void *watch(void *context) {
    const Rank &self = *static_cast<const Rank *>(context);
    ncclResult_t error = ncclSuccess;
    for (; error == ncclSuccess || error == ncclInProgress; usleep(1000)) ncclCommGetAsyncError(self.comm, &error);
    ncclCommAbort(self.comm);
    return reinterpret_cast<void *>(static_cast<intptr_t>(error));
}

void a_rank_dies(Rank &self, ncclUniqueId id) {
    open(self, id);
    if (self.rank == 1) _exit(9);
    Buffer<float> buffer(values<float>(self.rank, 8));
    pthread_t watcher;
    void *seen;
    NEED(pthread_create(&watcher, nullptr, watch, &self) == 0);
    ncclGroupStart();
    ncclAllReduce(buffer.data, buffer.data, 8, ncclFloat32, ncclSum, self.comm, self.stream);
    ncclGroupEnd();
    pthread_join(watcher, &seen);
    NEED(reinterpret_cast<intptr_t>(seen) == ncclRemoteError);
}

void not_ready(Rank &self, ncclUniqueId id) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    Buffer<float> buffer(values<float>(0, 8));
    config.blocking = 0;
    cudaStreamCreateWithFlags(&self.stream, cudaStreamNonBlocking);
    NEED(ncclGroupEnd() == ncclInvalidUsage);
    NEED(ncclCommInitRankConfig(&self.comm, 1, id, 0, &config) == ncclInProgress);
    const auto sum_all = [&] {
        return ncclAllReduce(buffer.data, buffer.data, 8, ncclFloat32, ncclSum, self.comm, self.stream);
    };
    NEED(sum_all() == ncclInvalidArgument);
    NEED(strstr(ncclGetLastError(self.comm), "not ready"));
    NEED(self.settle(ncclInProgress) == ncclSuccess);
    NEED(sum_all() == ncclInProgress);
    NEED(sum_all() == ncclInvalidArgument);
    NEED(self.settle(ncclInProgress) == ncclSuccess);
    NEED(sum_all() == ncclInProgress);
    NEED(self.settle(ncclInProgress) == ncclSuccess);
    NEED(ncclBroadcast(buffer.data, buffer.data, 8, ncclFloat32, 1, self.comm, self.stream) == ncclInvalidArgument);
    NEED(ncclCommDeregister(self.comm, &config) == ncclInvalidArgument);
    NEED(ncclMemFree(buffer.data) == ncclInvalidArgument);
    close(self);
}

void not_asked(Rank &self, ncclUniqueId id) {
    open(self, id);
    Buffer<float> buffer(values<float>(0, 8));
    ncclAllReduce(buffer.data, buffer.data, 8, ncclFloat32, ncclSum, self.comm, self.stream);
    cudaEventRecord(self.done, self.stream);
}

void beside_a_capture(Rank &self, ncclUniqueId id) {
    open(self, id);
    Buffer<float> buffer(values<float>(0, 8));
    cudaStreamBeginCapture(self.compute, cudaStreamCaptureModeThreadLocal);
    ncclAllReduce(buffer.data, buffer.data, 8, ncclFloat32, ncclSum, self.comm, self.stream);
}

void never_joined(Rank &self, ncclUniqueId id) {
    open(self, id);
    Buffer<float> buffer(values<float>(0, 8));
    cudaGraph_t graph;
    cudaStreamBeginCapture(self.compute, cudaStreamCaptureModeThreadLocal);
    self.begin();
    ncclAllReduce(buffer.data, buffer.data, 8, ncclFloat32, ncclSum, self.comm, self.stream);
    self.end();
    NEED(cudaStreamEndCapture(self.compute, &graph) == cudaErrorStreamCaptureUnjoined);
}

void graph_outlives(Rank &self, ncclUniqueId id) {
    open(self, id);
    Buffer<float> buffer(values<float>(0, 8));
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    cudaStreamBeginCapture(self.compute, cudaStreamCaptureModeThreadLocal);
    self.begin();
    ncclAllReduce(buffer.data, buffer.data, 8, ncclFloat32, ncclSum, self.comm, self.stream);
    self.end();
    self.wait();
    NEED(cudaStreamEndCapture(self.compute, &graph) == cudaSuccess);
    NEED(cudaGraphInstantiate(&executable, graph) == cudaSuccess);
    close(self);
}

void freed_too_early(Rank &self, ncclUniqueId id) {
    void *memory, *handle;
    open(self, id);
    NEED(ncclMemAlloc(&memory, 4096) == ncclSuccess);
    NEED(ncclCommRegister(self.comm, memory, 4096, &handle) == ncclSuccess);
    ncclMemFree(memory);
}

void host_memory(Rank &self, ncclUniqueId id) {
    float values[8] = {};
    open(self, id);
    ncclAllReduce(values, values, 8, ncclFloat32, ncclSum, self.comm, self.stream);
}

void badly_in_place(Rank &self, ncclUniqueId id) {
    open(self, id);
    Buffer<float> buffer(values<float>(0, 9));
    ncclAllReduce(buffer.data, buffer.data + 1, 8, ncclFloat32, ncclSum, self.comm, self.stream);
}

void touching(Rank &self, ncclUniqueId id) {
    open(self, id);
    Buffer<float> buffer(values<float>(0, 9));
    self.begin();
    for (int i = 0; i < 2; i++)
        ncclAllReduce(buffer.data + i, buffer.data + i, 8, ncclFloat32, ncclSum, self.comm, self.stream);
    self.end();
}

void one_gpu(Rank &self, ncclUniqueId id) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    NEED(self.settle(ncclCommInitRankConfig(&self.comm, self.ranks, id, self.rank, &config)) == ncclInvalidUsage);
    NEED(strstr(ncclGetLastError(self.comm), "Duplicate GPU detected"));
}

} // namespace

TEST(operations_give_what_plain_sums_give) {
    for (int ranks = 1; ranks <= RANKS; ranks++) expect_good(ranks, operations);
}

TEST(calls_join_a_capture_and_are_replayed) {
    for (int ranks = 1; ranks <= 3; ranks++) expect_good(ranks, captured);
}

TEST(results_are_poison_until_they_are_waited_for) {
    for (int ranks = 2; ranks <= 3; ranks++) expect_good(ranks, unwaited);
}

TEST(ranks_that_call_different_things_are_named) {
    const char *common = "rank 0 ncclReduce of 8 float32, root 1 (call 1 of 1)";
    expect_bad(2, different<0>, FAULT, {common, "rank 1 ncclReduce of 9 float32, root 1"});
    expect_bad(3, different<1>, FAULT, {common, "rank 1 ncclBroadcast of 8 float32, root 0"});
    expect_bad(2, different<2>, FAULT, {common, "rank 1 ncclReduce of 8 float64, root 1"});
    expect_bad(2, different<3>, FAULT, {common, "rank 1 ncclReduce of 8 float32, root 0"});
    expect_bad(2, different<4>, FAULT, {common, "rank 1 ncclReduce of 8 float32, root 1 (call 1 of 2)"});
}

TEST(the_death_of_a_rank_is_seen_and_an_abort_ends_the_wait) {
    for (int ranks = 2; ranks <= 3; ranks++) {
        const Outcome outcome = run_ranks(ranks, a_rank_dies);
        for (int r = 0; r < ranks; r++) assert_int_equal(outcome.status[r], r == 1 ? 9 : 0);
        assert_true(outcome.told("rank 1 is gone"));
    }
}

TEST(what_nccl_refuses_is_refused) {
    expect_good(1, not_ready);
    expect_good(1, never_joined);
    expect_good(2, one_gpu);
}

TEST(misuse_is_reported) {
    expect_bad(1, not_asked, FAULT, {"not made yet", "ncclCommGetAsyncError"});
    expect_bad(1, beside_a_capture, FAULT, {"ncclAllReduce: its stream has not joined the capture"});
    expect_bad(1, graph_outlives, FAULT, {"ncclCommDestroy: a graph holds work of the communicator"});
    expect_bad(1, freed_too_early, FAULT, {"ncclMemFree: 4096 bytes are still registered"});
    expect_bad(1, host_memory, FAULT, {"ncclAllReduce: 32 bytes to send", "device memory"});
    expect_bad(1, badly_in_place, FAULT, {"ncclAllReduce: the buffers overlap"});
    expect_bad(1, touching, FAULT, {"calls of one group", "touch the same memory"});
}
