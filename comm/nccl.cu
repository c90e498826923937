// The NCCL row. Calls go to a stream of their own that begins behind what is queued for computing, each call one group,
// with an event behind it that computing waits for. Whether computing is recorded or not makes no difference: what
// waits for the event takes the communicator's stream into the recording and back out of it.
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/recording.cuh"

#include <nccl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define _Noreturn __attribute__((noreturn))
extern "C" {
#include "comm/comm.h"
}
#undef _Noreturn

enum {
    MARKS = 512, // calls that can be waited for
    REGISTERED = 64,
    READY_SECONDS = 600, // until all ranks are connected
    POLL_NANOSECONDS = 20000,
};

struct Nccl {
    Ranks *ranks;
    ncclComm_t comm;
    pthread_mutex_t asking; // of the communicator's state: by one thread at a time
    bool aborted;           // guarded by it
    cudaStream_t stream;
    cudaEvent_t queued, marks[MARKS];
    int64_t mark;
    struct {
        void *memory, *handle;
        size_t bytes;
    } registered[REGISTERED];
};

// ---- errors ----

[[noreturn]] static void fail(Nccl *nccl, const char *call, ncclResult_t result) {
    ranks_lost(nccl->ranks, "%s: %s (%s); run with NCCL_DEBUG=INFO to see why", call, ncclGetErrorString(result),
               ncclGetLastError(nccl->comm));
}

// What has become of the communicator; in progress for ever once it is aborted, as this process is about to end.
static ncclResult_t ask(Nccl *nccl) {
    ncclResult_t state = ncclInProgress, result = ncclSuccess;
    pthread_mutex_lock(&nccl->asking);
    if (!nccl->aborted) result = ncclCommGetAsyncError(nccl->comm, &state);
    pthread_mutex_unlock(&nccl->asking);
    return result != ncclSuccess ? result : state;
}

// The communicator does not block: a call has been made once this has returned.
static void settle(Nccl *nccl, const char *call, ncclResult_t result) {
    const struct timespec pause = {0, POLL_NANOSECONDS};
    for (int tries = 0; result == ncclInProgress; tries++) {
        result = ask(nccl);
        if (result == ncclInProgress && tries > 100) nanosleep(&pause, NULL);
    }
    if (result != ncclSuccess) fail(nccl, call, result);
}

// In a group nothing is waited for before its end.
static void need(Nccl *nccl, const char *call, ncclResult_t result) {
    if (result != ncclSuccess && result != ncclInProgress) fail(nccl, call, result);
}

// The name of a call, without its arguments.
#define SETTLE(call, arguments) settle(nccl, #call, call arguments)
#define NEED(call, arguments) need(nccl, #call, call arguments)

// Asked by the thread that watches. While the main thread makes a call, that one sees.
static bool healthy(void *context, Text *why) {
    Nccl *nccl = static_cast<Nccl *>(context);
    ncclResult_t state = ncclSuccess;
    if (pthread_mutex_trylock(&nccl->asking) != 0) return true;
    if (!nccl->aborted && ncclCommGetAsyncError(nccl->comm, &state) != ncclSuccess) state = ncclSuccess;
    pthread_mutex_unlock(&nccl->asking);
    if (state == ncclSuccess || state == ncclInProgress) return true;
    text_printf(why, "NCCL: %s (%s); run with NCCL_DEBUG=INFO to see why", ncclGetErrorString(state),
                ncclGetLastError(nccl->comm));
    return false;
}

// Stops the kernels that wait for other ranks, so that the GPU is free once this process has ended.
static void abort_work(void *context) {
    Nccl *nccl = static_cast<Nccl *>(context);
    pthread_mutex_lock(&nccl->asking);
    if (!nccl->aborted) ncclCommAbort(nccl->comm);
    nccl->aborted = true;
    pthread_mutex_unlock(&nccl->asking);
}

// ---- calls ----

static ncclDataType_t type_of(DType dtype) {
    switch (dtype) {
    case DTYPE_F32: return ncclFloat32;
    case DTYPE_BF16: return ncclBfloat16;
    case DTYPE_F64: return ncclFloat64;
    case DTYPE_I32: return ncclInt32;
    case DTYPE_I64: return ncclInt64;
    case DTYPE_F16: break; // of files alone
    }
    DIE(EXIT_INTERNAL, "NCCL knows no %s", dtype_name(dtype));
}

static Nccl *begin(Comm *comm) {
    Nccl *nccl = static_cast<Nccl *>(comm->own);
    CUDA(cudaEventRecord(nccl->queued, cuda_stream()));
    CUDA(cudaStreamWaitEvent(nccl->stream, nccl->queued, 0));
    NEED(ncclGroupStart, ());
    return nccl;
}

static int64_t end(Nccl *nccl) {
    SETTLE(ncclGroupEnd, ());
    nccl->mark++;
    CUDA(cudaEventRecord(nccl->marks[nccl->mark % MARKS], nccl->stream));
    return nccl->mark;
}

static void nccl_wait(Comm *comm, int64_t mark) {
    Nccl *nccl = static_cast<Nccl *>(comm->own);
    REQUIRE(mark > nccl->mark - MARKS && mark <= nccl->mark, "call %ld is waited for, and the last is %ld",
            static_cast<long>(mark), static_cast<long>(nccl->mark));
    CUDA(cudaStreamWaitEvent(cuda_stream(), nccl->marks[mark % MARKS], 0));
}

static int64_t nccl_sum(Comm *comm, Tensor values) {
    REQUIRE(tensor_contiguous(values), "a strided sum");
    Nccl *nccl = begin(comm);
    NEED(ncclAllReduce, (values.data, values.data, static_cast<size_t>(tensor_count(values)), type_of(values.dtype),
                       ncclSum, nccl->comm, nccl->stream));
    return end(nccl);
}

// ---- shares ----

enum { EVERYONE = -1 };

// What one call of NCCL does: a range of one owner, or adjacent parts of `count` for each rank, in their order.
struct Piece {
    int64_t offset, count;
    int owner; // or EVERYONE
};

struct Pieces {
    Shares shares;
    int size;         // ranks
    int64_t at, done; // the next share, and how much of it is done
};

static bool adjacent(const Share *a) { return a[0].offset + a[0].count == a[1].offset; }

// Whether shares of all ranks begin here, adjacent and in their order, equal but that the last one may be longer.
static bool shares_of_everyone(const Pieces *p, int64_t at) {
    const Share *items = p->shares.items + at;
    if (at + p->size > p->shares.count || items[0].count == 0) return false;
    for (int r = 0; r < p->size; r++) {
        bool fits = r < p->size - 1 ? items[r].count == items[0].count : items[r].count >= items[0].count;
        if (items[r].owner != r || !fits || (r > 0 && !adjacent(&items[r - 1]))) return false;
    }
    return true;
}

static bool next_piece(Pieces *p, Piece *piece) {
    const Share *items = p->shares.items;
    while (p->at < p->shares.count && items[p->at].count == p->done) p->at++, p->done = 0;
    if (p->at == p->shares.count) return false;
    if (p->done == 0 && shares_of_everyone(p, p->at)) {
        *piece = {items[p->at].offset, items[p->at].count, EVERYONE};
        p->at += p->size - 1;
        p->done = piece->count;
        return true;
    }
    *piece = {items[p->at].offset + p->done, items[p->at].count - p->done, items[p->at].owner};
    for (; p->at + 1 < p->shares.count; p->at++) {
        const Share *next = &items[p->at + 1];
        if (next->owner != piece->owner || !adjacent(&items[p->at]) || shares_of_everyone(p, p->at + 1)) break;
        piece->count += next->count;
    }
    p->at++;
    p->done = 0;
    return true;
}

static char *place(Tensor flat, int64_t offset) {
    return static_cast<char *>(flat.data) + offset * static_cast<int64_t>(dtype_bytes(flat.dtype));
}

static int64_t nccl_reduce(Comm *comm, Tensor flat, Shares shares) {
    Pieces pieces = {shares, comm->size, 0, 0};
    ncclDataType_t type = type_of(flat.dtype);
    Piece piece;
    Nccl *nccl = begin(comm);
    while (next_piece(&pieces, &piece)) {
        char *at = place(flat, piece.offset), *own = place(flat, piece.offset + comm->rank * piece.count);
        size_t count = static_cast<size_t>(piece.count);
        if (piece.owner == EVERYONE)
            NEED(ncclReduceScatter, (at, own, count, type, ncclSum, nccl->comm, nccl->stream));
        else
            NEED(ncclReduce, (at, at, count, type, ncclSum, piece.owner, nccl->comm, nccl->stream));
    }
    return end(nccl);
}

static int64_t nccl_gather(Comm *comm, Tensor flat, Shares shares) {
    Pieces pieces = {shares, comm->size, 0, 0};
    ncclDataType_t type = type_of(flat.dtype);
    Piece piece;
    Nccl *nccl = begin(comm);
    while (next_piece(&pieces, &piece)) {
        char *at = place(flat, piece.offset), *own = place(flat, piece.offset + comm->rank * piece.count);
        size_t count = static_cast<size_t>(piece.count);
        if (piece.owner == EVERYONE)
            NEED(ncclAllGather, (own, at, count, type, nccl->comm, nccl->stream));
        else
            NEED(ncclBroadcast, (at, at, count, type, piece.owner, nccl->comm, nccl->stream));
    }
    return end(nccl);
}

// ---- memory ----

// Registered, so that NCCL moves it without copies of its own.
static void *nccl_take_memory(Comm *comm, size_t bytes) {
    Nccl *nccl = static_cast<Nccl *>(comm->own);
    void *memory = NULL;
    int i = 0;
    while (i < REGISTERED && nccl->registered[i].memory) i++;
    REQUIRE(i < REGISTERED, "more than %d pieces of registered memory", REGISTERED);
    bytes = bytes > 0 ? bytes : 1;
    if (ncclMemAlloc(&memory, bytes) != ncclSuccess) {
        cudaGetLastError(); // the caller tells it
        return NULL;
    }
    CUDA(cudaMemsetAsync(memory, 0, bytes, cuda_stream()));
    SETTLE(ncclCommRegister, (nccl->comm, memory, bytes, &nccl->registered[i].handle));
    nccl->registered[i].memory = memory;
    nccl->registered[i].bytes = bytes;
    cuda_account(static_cast<int64_t>(bytes));
    return memory;
}

// What was recorded may use it.
static void quiet(Nccl *nccl) {
    CUDA(cudaStreamSynchronize(nccl->stream));
    cuda_finish();
    recording_forget();
}

static void nccl_return_memory(Comm *comm, void *memory, size_t bytes) {
    Nccl *nccl = static_cast<Nccl *>(comm->own);
    (void)bytes;
    if (!memory) return;
    quiet(nccl);
    int i = 0;
    while (i < REGISTERED && nccl->registered[i].memory != memory) i++;
    REQUIRE(i < REGISTERED, "memory that was not taken here");
    SETTLE(ncclCommDeregister, (nccl->comm, nccl->registered[i].handle));
    NEED(ncclMemFree, (memory));
    cuda_account(-static_cast<int64_t>(nccl->registered[i].bytes));
    nccl->registered[i].memory = NULL;
}

// A recording that holds calls of the communicator would keep it from ending.
static void nccl_close(Comm *comm) {
    Nccl *nccl = static_cast<Nccl *>(comm->own);
    quiet(nccl);
    for (auto &registered : nccl->registered)
        if (registered.memory) nccl_return_memory(comm, registered.memory, registered.bytes);
    ranks_at(comm->ranks, "closing NCCL");
    SETTLE(ncclCommFinalize, (nccl->comm));
    ranks_on_watch(comm->ranks, NULL, NULL);
    ranks_on_fail(comm->ranks, NULL, NULL);
    NEED(ncclCommDestroy, (nccl->comm));
    for (cudaEvent_t event : nccl->marks) CUDA(cudaEventDestroy(event));
    CUDA(cudaEventDestroy(nccl->queued));
    CUDA(cudaStreamDestroy(nccl->stream));
    pthread_mutex_destroy(&nccl->asking);
    free(nccl);
}

static const CommRow row_nccl = {
    .name = "nccl",
    .queued = true,
    .sum = nccl_sum,
    .reduce = nccl_reduce,
    .gather = nccl_gather,
    .wait = nccl_wait,
    .take_memory = nccl_take_memory,
    .return_memory = nccl_return_memory,
    .close = nccl_close,
};

// ---- opening ----

void comm_nccl_describe(Text *out) {
    int version = 0;
    ncclGetVersion(&version);
    text_printf(out, "NCCL %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
}

// Adds "GPU 0000:17:00.0 of NAME", and behind a 0 which machine that is, as names may be alike.
static void add_gpu(Text *out) {
    char bus[32] = "", host[256] = "", boot[64] = "";
    int device = 0;
    CUDA(cudaGetDevice(&device));
    CUDA(cudaDeviceGetPCIBusId(bus, sizeof bus, device));
    gethostname(host, sizeof host - 1);
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (file && !fgets(boot, sizeof boot, file)) *boot = 0;
    if (file) fclose(file);
    text_printf(out, "GPU %s of %s", bus, host);
    text_append(out, "", 1);
    text_add(out, boot);
}

static bool same_bytes(const Text *a, const Text *b) {
    return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

// On rank 0: whether all ranks have a GPU of their own.
static bool check_gpus(const Text *gpus, int size, Errors *errors) {
    for (int i = 0; i < size; i++)
        for (int j = 0; j < i; j++)
            if (gpus[i].size > 0 && same_bytes(&gpus[i], &gpus[j]))
                return errors_add(errors, EXIT_USAGE, "dist.comm: ranks %d and %d both use %s, and NCCL needs one for "
                                  "each; start fewer ranks on that machine, or use dist.comm=host for tests on one "
                                  "GPU", j, i, text_string(&gpus[i]));
    return true;
}

// The communicator's id on all ranks, or the reason why there is none: the other ranks give rank 0's.
static bool make_id(Comm *comm, ncclUniqueId *id, Errors *errors) {
    Text mine = {}, shared = {}, *gpus = static_cast<Text *>(memory_take(comm->size, sizeof(Text), "texts of ranks"));
    add_gpu(&mine);
    ranks_collect(comm->ranks, &mine, gpus);
    Errors own = {};
    if (comm->rank == 0 && check_gpus(gpus, comm->size, &own)) {
        ncclResult_t result = ncclGetUniqueId(id);
        if (result != ncclSuccess)
            errors_add(&own, EXIT_COMM, "ncclGetUniqueId: %s (%s); run with NCCL_DEBUG=INFO to see why",
                       ncclGetErrorString(result), ncclGetLastError(NULL));
    }
    char code = static_cast<char>(own.exit_code);
    text_append(&shared, &code, 1);
    if (code) text_add(&shared, text_string(&own.text));
    else text_append(&shared, id, sizeof *id);
    ranks_share(comm->ranks, &shared);
    code = shared.data[0];
    if (!code) memcpy(id, shared.data + 1, sizeof *id);
    else errors_add(errors, code, "%.*s", static_cast<int>(strcspn(shared.data + 1, "\n")), shared.data + 1);
    for (int i = 0; i < comm->size; i++) text_close(&gpus[i]);
    free(gpus);
    text_close(&mine);
    text_close(&shared);
    errors_close(&own);
    return !code;
}

static void connect(Comm *comm, Nccl *nccl, ncclUniqueId id) {
    const struct timespec pause = {0, 1000000};
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ranks_patient(comm->ranks, true);
    double begin = clock_seconds();
    ncclResult_t result = ncclCommInitRankConfig(&nccl->comm, comm->size, id, comm->rank, &config);
    while (result == ncclInProgress && clock_seconds() < begin + READY_SECONDS) {
        nanosleep(&pause, NULL);
        result = ask(nccl);
    }
    if (result != ncclSuccess) fail(nccl, "ncclCommInitRankConfig", result);
    ranks_patient(comm->ranks, false);
}

bool comm_nccl(Comm *comm, const Kernels *kernels, Ranks *ranks, Errors *errors) {
    Text version = {};
    ncclUniqueId id;
    int least, greatest;
    *comm = {};
    comm->row = &row_nccl;
    comm->kernels = kernels;
    comm->ranks = ranks;
    comm->rank = ranks_rank(ranks);
    comm->size = ranks_size(ranks);
    comm_nccl_describe(&version);
    ranks_at(ranks, "opening %s", text_string(&version));
    ranks_same(ranks, "version of NCCL", text_string(&version));
    text_close(&version);
    if (!make_id(comm, &id, errors)) {
        *comm = {};
        return false;
    }
    Nccl *nccl = static_cast<Nccl *>(memory_take(1, sizeof(Nccl), "a communicator"));
    nccl->ranks = ranks;
    pthread_mutex_init(&nccl->asking, NULL);
    connect(comm, nccl, id);
    CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    CUDA(cudaStreamCreateWithPriority(&nccl->stream, cudaStreamNonBlocking, greatest));
    CUDA(cudaEventCreateWithFlags(&nccl->queued, cudaEventDisableTiming));
    for (cudaEvent_t &event : nccl->marks) CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    comm->own = nccl;
    ranks_on_watch(ranks, healthy, nccl);
    ranks_on_fail(ranks, abort_work, nccl);
    return true;
}
