// A stand-in for NCCL between processes of one machine. What the library refuses is refused with a line that says why;
// what it would leave undefined, ranks that call different things or memory that is not the device's, is a fault. A
// group of calls is one piece of work of its stream. Its results land late: until another stream has waited for them,
// their place holds poison.
#include "tests/cudasim/control.h"
#include "tests/cudasim/cudasim_internal.h"
#include "tests/cudasim/nccl_link.h"

#include <nccl.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <iterator>
#include <memory>
#include <set>
#include <thread>
#include <unistd.h>

using namespace cudasim;

namespace {

// ---- calls ----

enum Kind { ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, REDUCE, BROADCAST };
const char *const kind_names[] = {"ncclAllReduce", "ncclReduceScatter", "ncclAllGather", "ncclReduce", "ncclBroadcast"};
const char *const type_names[ncclNumTypes] = {"int8",    "uint8",   "int32",   "uint32",   "int64",  "uint64",
                                              "float16", "float32", "float64", "bfloat16", "float8", "float8"};
const size_t type_sizes[ncclNumTypes] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};

struct Collective {
    Kind kind;
    const char *send;
    char *receive;
    size_t count; // as it is given: of the smaller side
    ncclDataType_t type;
    ncclRedOp_t operation;
    int root;
    size_t bytes() const { return count * type_sizes[type]; }
};

enum State { JOINING, READY, LAUNCHING, FINALIZING, FINALIZED };

} // namespace

struct ncclComm {
    Link link;
    int rank, ranks;
    bool blocking;
    std::atomic<State> state;
    std::atomic<ncclResult_t> error; // what has gone wrong, else ncclSuccess
    std::atomic<bool> aborted;
    cudaStream_t stream; // of the group that is being launched

    size_t sent(const Collective &c) const { return c.bytes() * (c.kind == REDUCE_SCATTER ? ranks : 1); }
    size_t received(const Collective &c) const { return c.bytes() * (c.kind == ALL_GATHER ? ranks : 1); }
    bool sends(const Collective &c) const { return c.kind != BROADCAST || c.root == rank; }
    bool receives(const Collective &c) const { return c.kind != REDUCE || c.root == rank; }
};

namespace {

struct Registration {
    ncclComm_t comm;
    const char *memory;
    size_t bytes;
};

std::mutex registry_mutex; // guards these
std::set<ncclComm_t> communicators, &destroyed = *new std::set<ncclComm_t>;
std::set<Registration *> registrations;
std::set<void *> own_memory; // of ncclMemAlloc
char last_error[400];
std::atomic<uint64_t> taken[std::size(kind_names)]; // calls

thread_local struct {
    int depth;
    ncclResult_t error;
    ncclComm_t comm;
    cudaStream_t stream;
    std::vector<Collective> calls;
} group;

ncclResult_t refuse(ncclResult_t result, const char *format, ...) __attribute__((format(printf, 2, 3)));
ncclResult_t refuse(ncclResult_t result, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(last_error, sizeof last_error, format, list);
    va_end(list);
    fprintf(stderr, "cudasim: NCCL: %s\n", last_error);
    return result;
}

// A communicator that can be called, by this thread.
ncclResult_t check_ready(ncclComm_t comm, const char *call) {
    const std::lock_guard<std::mutex> lock(registry_mutex);
    if (!communicators.count(comm)) fault("%s: %p is no communicator", call, static_cast<void *>(comm));
    if (comm->error != ncclSuccess) return comm->error;
    if (comm->state != READY)
        return refuse(ncclInvalidArgument, "%s: the communicator is not ready: ncclCommGetAsyncError has not said "
                      "ncclSuccess since the last call", call);
    return ncclSuccess;
}

bool overlap(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

// Where a call works in place, NCCL has a place for it.
void check_place(const ncclComm &comm, const Collective &c) {
    const char *name = kind_names[c.kind];
    const size_t sent = comm.sends(c) ? comm.sent(c) : 0, received = comm.receives(c) ? comm.received(c) : 0;
    if (sent && !is_device_memory(c.send, sent))
        fault("%s: %zu bytes to send at %p are not all in one allocation of device memory", name, sent, c.send);
    if (received && !is_device_memory(c.receive, received))
        fault("%s: %zu bytes to receive at %p are not all in one allocation of device memory", name, received,
              c.receive);
    if (!sent || !received || !overlap(c.send, sent, c.receive, received)) return;
    const size_t part = static_cast<size_t>(comm.rank) * c.bytes();
    const bool in_place = c.kind == REDUCE_SCATTER ? c.receive == c.send + part
                          : c.kind == ALL_GATHER   ? c.send == c.receive + part
                                                   : c.send == c.receive;
    if (!in_place) fault("%s: the buffers overlap, and not as a call in place has them", name);
}

ncclResult_t enqueue(const Collective &c, ncclComm_t comm, cudaStream_t stream) {
    const char *name = kind_names[c.kind];
    const std::lock_guard<std::recursive_mutex> lock(api_mutex);
    ncclGroupStart();
    ncclResult_t result = check_ready(comm, name);
    if (!result && (c.type < 0 || c.type >= ncclNumTypes)) result = refuse(ncclInvalidArgument, "%s: a type", name);
    if (!result && (c.root < 0 || c.root >= comm->ranks))
        result = refuse(ncclInvalidArgument, "%s: root %d of %d ranks", name, c.root, comm->ranks);
    if (!result && c.operation != ncclSum) fault("%s: this stand-in only sums", name);
    if (!result && !stream) fault("%s: on the legacy stream", name);
    if (!result && !group.calls.empty() && (group.comm != comm || group.stream != stream))
        fault("%s: a group with several communicators or streams", name);
    if (!result && captures_beside(stream))
        fault("%s: its stream has not joined the capture of this thread: it would run once, while that is recorded",
              name);
    if (!result) {
        check_place(*comm, c);
        group.comm = comm;
        group.stream = stream;
        group.calls.push_back(c);
        taken[c.kind]++;
    } else {
        group.error = result;
    }
    const ncclResult_t ended = ncclGroupEnd();
    return result ? result : ended;
}

// ---- numbers ----

template <class T, class Sum> void sum_ranks(T *out, ncclComm &comm, size_t offset, size_t count) {
    for (size_t i = 0; i < count; i++) {
        Sum sum = 0;
        for (int r = 0; r < comm.ranks; r++) {
            const Sum value = static_cast<Sum>(reinterpret_cast<const T *>(comm.link.room(r) + offset)[i]);
            sum = r ? sum + value : value;
        }
        out[i] = static_cast<T>(sum);
    }
}

void sum_bytes(char *out, ncclComm &comm, ncclDataType_t type, size_t offset, size_t bytes) {
    const size_t count = bytes / type_sizes[type];
    if (type == ncclFloat32) sum_ranks<float, float>(reinterpret_cast<float *>(out), comm, offset, count);
    else if (type == ncclFloat64) sum_ranks<double, double>(reinterpret_cast<double *>(out), comm, offset, count);
    else if (type == ncclBfloat16)
        sum_ranks<__nv_bfloat16, float>(reinterpret_cast<__nv_bfloat16 *>(out), comm, offset, count);
    else fault("NCCL: this stand-in does not sum %s", type_names[type]);
}

// Bytes [begin, begin + bytes) of what every rank sends lie in the rooms: takes from them what is ours.
void take_from_rooms(ncclComm &comm, const Collective &c, size_t begin, size_t bytes, std::string &result) {
    if (!comm.receives(c)) return;
    if (c.kind == ALL_GATHER) {
        for (int r = 0; r < comm.ranks; r++) memcpy(&result[r * c.bytes() + begin], comm.link.room(r), bytes);
        return;
    }
    if (c.kind == BROADCAST) {
        memcpy(&result[begin], comm.link.room(c.root), bytes);
        return;
    }
    const size_t first = c.kind == REDUCE_SCATTER ? static_cast<size_t>(comm.rank) * c.bytes() : 0;
    const size_t from = std::max(begin, first), to = std::min(begin + bytes, first + c.bytes());
    if (from < to) sum_bytes(&result[from - first], comm, c.type, from - begin, to - from);
}

// ---- a group ----

std::string words_of(const Announcement &a) {
    char text[200];
    const bool rooted = a.kind == REDUCE || a.kind == BROADCAST;
    snprintf(text, sizeof text, "%s of %llu %s%s%s (call %d of %d)", kind_names[a.kind],
             static_cast<unsigned long long>(a.count), type_names[a.type], rooted ? ", root " : "",
             rooted ? std::to_string(a.root).c_str() : "", a.call + 1, a.calls);
    return text;
}

// False where it cannot be: the communicator then waits to be aborted, as NCCL's kernels do.
bool meet(ncclComm &comm) {
    int lost = -1;
    if (comm.link.meet(comm.aborted, &lost)) return true;
    if (lost >= 0) {
        comm.error = refuse(ncclRemoteError, "rank %d is gone, as rank %d sees it", lost, comm.rank);
        for (int i = 0; !comm.aborted; i++) {
            if (i == 600000) fault("NCCL: ncclRemoteError was not followed by an abort");
            usleep(1000);
        }
    }
    return false;
}

bool agree(ncclComm &comm, const Collective &c, int number, int calls) {
    const Announcement own = {number, calls, c.kind, c.type, c.operation, c.root, c.count};
    comm.link.announcement(comm.rank) = own;
    if (!meet(comm)) return false;
    for (int r = 0; r < comm.ranks; r++) {
        const Announcement &other = comm.link.announcement(r);
        if (!memcmp(&own, &other, sizeof own)) continue;
        fault("NCCL: ranks call different things: rank %d %s, rank %d %s", comm.rank, words_of(own).c_str(), r,
              words_of(other).c_str());
    }
    return meet(comm);
}

// Does a call with the other ranks; `result` is what will land at c.receive.
bool exchange(ncclComm &comm, const Collective &c, std::string &result) {
    const size_t sent = comm.sent(c);
    result.resize(comm.receives(c) ? comm.received(c) : 0);
    for (size_t begin = 0; begin < sent; begin += LINK_ROOM) {
        const size_t bytes = std::min(LINK_ROOM, sent - begin);
        if (comm.sends(c)) memcpy(comm.link.room(comm.rank), c.send + begin, bytes);
        if (!meet(comm)) return false;
        take_from_rooms(comm, c, begin, bytes, result);
        if (!meet(comm)) return false;
    }
    return true;
}

// Everything that the call changes: in place also what it leaves undefined.
std::vector<Span> spans_of(const ncclComm &comm, const Collective &c) {
    char *send = const_cast<char *>(c.send);
    if (c.kind == REDUCE_SCATTER && c.receive >= send && c.receive < send + comm.sent(c))
        return {{send, comm.sent(c)}};
    if (c.kind == ALL_GATHER && send >= c.receive && send < c.receive + comm.received(c))
        return {{c.receive, static_cast<size_t>(send - c.receive)},
                {send + c.bytes(), static_cast<size_t>(c.receive + comm.received(c) - send) - c.bytes()}};
    if (c.kind == BROADCAST && comm.sends(c) && send == c.receive) return {};
    if (!comm.receives(c) && send != c.receive) return {};
    return {{c.receive, comm.receives(c) ? comm.received(c) : c.bytes()}};
}

// All that a group touches.
std::vector<Span> spans_of(const ncclComm &comm, const std::vector<Collective> &calls) {
    std::vector<Span> all;
    for (const Collective &c : calls) {
        for (const Span &span : spans_of(comm, c)) all.push_back(span);
        if (comm.sends(c)) all.push_back({const_cast<char *>(c.send), comm.sent(c)});
    }
    return all;
}

void check_apart(const ncclComm &comm, const std::vector<Collective> &calls) {
    for (const Collective &a : calls)
        for (const Collective &b : calls)
            for (const Span &span : spans_of(comm, a))
                for (const Span &other : spans_of(comm, std::vector<Collective>{b}))
                    if (&a != &b && overlap(span.start, span.bytes, other.start, other.bytes))
                        fault("NCCL: calls of one group, %s and %s, touch the same memory", kind_names[a.kind],
                              kind_names[b.kind]);
}

struct Results {
    std::vector<std::string> of_calls; // empty: the group did not end
};

void start(ncclComm &comm, const std::vector<Collective> &calls, Results &results) {
    const DeviceAccess access;
    if (comm.state == FINALIZED) fault("NCCL: work of a communicator that is destroyed");
    results.of_calls.assign(calls.size(), "");
    for (size_t i = 0; i < calls.size(); i++)
        if (!agree(comm, calls[i], static_cast<int>(i), static_cast<int>(calls.size())) ||
            !exchange(comm, calls[i], results.of_calls[i])) {
            results.of_calls.clear();
            return;
        }
    for (const Collective &c : calls)
        for (const Span &span : spans_of(comm, c)) fill_with_poison(span.start, span.bytes);
}

void land(const std::vector<Collective> &calls, const Results &results) {
    const DeviceAccess access;
    for (size_t i = 0; i < results.of_calls.size(); i++)
        memcpy(calls[i].receive, results.of_calls[i].data(), results.of_calls[i].size());
}

std::vector<std::string> values_of(const std::vector<Collective> &calls) {
    std::vector<std::string> values;
    for (const Collective &c : calls)
        for (std::string value : {value_bytes(c.kind), value_bytes(c.send), value_bytes(c.receive),
                                  value_bytes(c.count), value_bytes(c.type), value_bytes(c.root)})
            values.push_back(std::move(value));
    return values;
}

ncclResult_t launch_group(ncclComm_t comm, cudaStream_t stream, std::vector<Collective> group_calls, const void *code) {
    const auto calls = std::make_shared<const std::vector<Collective>>(std::move(group_calls));
    const auto results = std::make_shared<Results>();
    check_apart(*comm, *calls);
    const cudaError_t error =
        submit_late(stream, {"ncclGroupEnd", code, comm}, values_of(*calls), spans_of(*comm, *calls),
                    [comm, calls, results] { start(*comm, *calls, *results); },
                    [calls, results] { land(*calls, *results); });
    if (error) return comm->error = refuse(ncclUnhandledCudaError, "launch: %s", cudaGetErrorString(error));
    return comm->error;
}

// ---- joining ----

ncclResult_t check_joined(ncclComm &comm) {
    if (!comm.link.all_joined()) return ncclInProgress;
    for (int r = 0; r < comm.ranks; r++)
        for (int s = 0; s < r; s++)
            if (comm.link.device_of(r) == comm.link.device_of(s))
                return comm.error = refuse(ncclInvalidUsage, "Duplicate GPU detected : rank %d and rank %d both on "
                                           "CUDA device %d", s, r, comm.link.device_of(r));
    comm.state = READY;
    return ncclSuccess;
}

} // namespace

#define HERE __builtin_return_address(0)

extern "C" {

uint64_t cudasim_collectives(const char *name) {
    for (size_t kind = 0; kind < std::size(kind_names); kind++)
        if (!strcmp(kind_names[kind], name)) return taken[kind];
    fault("there is no %s here", name);
}

ncclResult_t ncclGetVersion(int *version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
    switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error";
    case ncclSystemError: return "unhandled system error";
    case ncclInternalError: return "internal error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "NCCL operation in progress";
    default: return "unknown result code";
    }
}

const char *ncclGetLastError(ncclComm_t) { return last_error; }

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    LinkId link;
    static_assert(sizeof link <= sizeof id->internal, "an id fits");
    if (!make_link(&link)) return refuse(ncclSystemError, "no shared memory: %s", strerror(errno));
    *id = {};
    memcpy(id->internal, &link, sizeof link);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config) {
    const std::lock_guard<std::recursive_mutex> lock(api_mutex);
    LinkId link;
    int device;
    memcpy(&link, id.internal, sizeof link);
    cudaGetDevice(&device);
    if (config && (config->size != sizeof *config || config->magic != 0xcafebeef))
        return refuse(ncclInvalidArgument, "the configuration was not made by NCCL_CONFIG_INITIALIZER");
    if (ranks < 1 || ranks > LINK_RANKS || rank < 0 || rank >= ranks)
        return refuse(ncclInvalidArgument, "rank %d of %d; this stand-in has room for %d", rank, ranks, LINK_RANKS);
    if (forbidden_in_capture()) return refuse(ncclUnhandledCudaError, "a communicator is made while a stream captures");
    std::unique_ptr<ncclComm> comm(new ncclComm{});
    comm->rank = rank;
    comm->ranks = ranks;
    comm->blocking = !config || config->blocking != 0;
    if (!comm->link.open(link, rank, ranks, device))
        return refuse(ncclSystemError, "rank %d: nobody is there who made this id, or the rank is taken", rank);
    *out = comm.release();
    {
        const std::lock_guard<std::mutex> registry(registry_mutex);
        communicators.insert(*out);
    }
    if (!(*out)->blocking) return ncclInProgress;
    ncclResult_t result;
    while ((result = check_joined(**out)) == ncclInProgress) usleep(1000);
    return result;
}

// A communicator that does not block goes on when it is asked.
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
    *error = comm->error;
    if (*error != ncclSuccess) return ncclSuccess;
    State launching = LAUNCHING;
    if (comm->state == JOINING) *error = check_joined(*comm);
    else if (comm->state.compare_exchange_strong(launching, READY)) hold_stream(comm->stream, false);
    else if (comm->state == FINALIZING) comm->state = FINALIZED;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    const ncclResult_t result = check_ready(comm, "ncclCommFinalize");
    if (result) return result;
    comm->state = comm->blocking ? FINALIZED : FINALIZING;
    return comm->blocking ? ncclSuccess : ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    const std::lock_guard<std::recursive_mutex> lock(api_mutex);
    const std::lock_guard<std::mutex> registry(registry_mutex);
    if (!communicators.erase(comm)) fault("ncclCommDestroy: %p is no communicator", static_cast<void *>(comm));
    if (held_by_graphs(comm))
        fault("ncclCommDestroy: a graph holds work of the communicator; NCCL would wait for its end for ever");
    if (!comm->blocking && comm->state != FINALIZED)
        fault("ncclCommDestroy: the communicator was not finalized");
    comm->state = FINALIZED;
    destroyed.insert(comm); // for what may come too late
    comm->link.close();
    return ncclSuccess;
}

// From any thread, also while another waits in a call of the communicator.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
    comm->error = refuse(ncclInternalError, "rank %d aborts", comm->rank);
    comm->aborted = true;
    return ncclSuccess;
}

ncclResult_t ncclMemAlloc(void **pointer, size_t bytes) {
    const cudaError_t error = cudaMalloc(pointer, bytes);
    if (error) return refuse(ncclUnhandledCudaError, "ncclMemAlloc: %s", cudaGetErrorString(error));
    const std::lock_guard<std::mutex> registry(registry_mutex);
    own_memory.insert(*pointer);
    return ncclSuccess;
}

ncclResult_t ncclMemFree(void *pointer) {
    {
        const std::lock_guard<std::mutex> registry(registry_mutex);
        if (!own_memory.erase(pointer)) return refuse(ncclInvalidArgument, "ncclMemFree: not from ncclMemAlloc");
        for (const Registration *r : registrations)
            if (r->memory == pointer) fault("ncclMemFree: %zu bytes are still registered", r->bytes);
    }
    const cudaError_t error = cudaFree(pointer);
    return error ? refuse(ncclUnhandledCudaError, "ncclMemFree: %s", cudaGetErrorString(error)) : ncclSuccess;
}

ncclResult_t ncclCommRegister(const ncclComm_t comm, void *memory, size_t bytes, void **handle) {
    const ncclResult_t result = check_ready(comm, "ncclCommRegister");
    if (result) return result;
    if (!is_device_memory(memory, bytes)) return refuse(ncclInvalidArgument, "ncclCommRegister: not device memory");
    const std::lock_guard<std::mutex> registry(registry_mutex);
    Registration *made = new Registration{comm, static_cast<const char *>(memory), bytes};
    registrations.insert(made);
    *handle = made;
    return ncclSuccess;
}

ncclResult_t ncclCommDeregister(const ncclComm_t comm, void *handle) {
    const ncclResult_t result = check_ready(comm, "ncclCommDeregister");
    if (result) return result;
    const std::lock_guard<std::mutex> registry(registry_mutex);
    Registration *made = static_cast<Registration *>(handle);
    if (!registrations.count(made) || made->comm != comm)
        return refuse(ncclInvalidArgument, "ncclCommDeregister: not registered with this communicator");
    if (held_by_graphs(comm))
        fault("ncclCommDeregister: a graph holds work of the communicator, which may use the memory");
    registrations.erase(made);
    delete made;
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void) {
    if (!group.depth++) group.error = ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
    if (!group.depth) return refuse(ncclInvalidUsage, "ncclGroupEnd: not in a group call");
    if (--group.depth) return ncclSuccess;
    std::vector<Collective> calls = std::move(group.calls);
    group.calls.clear();
    if (group.error) return group.error;
    if (calls.empty()) return ncclSuccess;
    const std::lock_guard<std::recursive_mutex> lock(api_mutex);
    const ncclComm_t comm = group.comm;
    const ncclResult_t result = launch_group(comm, group.stream, std::move(calls), HERE);
    if (result || comm->blocking) return result;
    comm->stream = group.stream;
    hold_stream(comm->stream, true);
    comm->state = LAUNCHING;
    return ncclInProgress;
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t operation,
                           ncclComm_t comm, cudaStream_t stream) {
    return enqueue({ALL_REDUCE, static_cast<const char *>(send), static_cast<char *>(receive), count, type, operation,
                    0}, comm, stream);
}
ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t received, ncclDataType_t type,
                               ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
    return enqueue({REDUCE_SCATTER, static_cast<const char *>(send), static_cast<char *>(receive), received, type,
                    operation, 0}, comm, stream);
}
ncclResult_t ncclAllGather(const void *send, void *receive, size_t sent, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
    return enqueue({ALL_GATHER, static_cast<const char *>(send), static_cast<char *>(receive), sent, type, ncclSum, 0},
                   comm, stream);
}
ncclResult_t ncclReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t operation,
                        int root, ncclComm_t comm, cudaStream_t stream) {
    return enqueue({REDUCE, static_cast<const char *>(send), static_cast<char *>(receive), count, type, operation,
                    root}, comm, stream);
}
ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
    return enqueue({BROADCAST, static_cast<const char *>(send), static_cast<char *>(receive), count, type, ncclSum,
                    root}, comm, stream);
}

} // extern "C"
