// The row host: a ring. In each of size - 1 turns every rank sends a part to the next one and receives one from the
// previous, both at once. What is summed is added in the order of the ring and copied from its end, so that all have
// the same bits.
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "comm/comm.h"
#include "comm/ranks_internal.h"
#include "comm/row.h"
#include "runtime/memory.h"

enum { PIECE_BYTES = 1 << 18, RUNS = 64 };

typedef struct {
    int next, previous; // sockets
    char *piece;        // PIECE_BYTES, of what is added
    void *staging;      // host memory for tensors of a device
    size_t staging_bytes;
} Host;

// Shares in host memory: element `origin` of the flat tensor is at `bytes`.
typedef struct {
    char *bytes;
    int64_t origin;
    DType dtype;
    Shares shares;
} Flat;

// ---- the bytes of one owner's shares, in order ----

typedef struct {
    const Flat *flat;
    int owner;
    int64_t item;
    size_t within; // bytes of the item that are behind
    size_t left;   // bytes to come
} Cursor;

static size_t item_bytes(const Cursor *cursor) {
    const Share *share = &cursor->flat->shares.items[cursor->item];
    return share->owner == cursor->owner ? (size_t)share->count * dtype_bytes(cursor->flat->dtype) : 0;
}

static void skip_behind(Cursor *cursor) {
    while (cursor->item < cursor->flat->shares.count && cursor->within == item_bytes(cursor))
        cursor->item++, cursor->within = 0;
}

static Cursor cursor_begin(const Flat *flat, int owner) {
    Cursor cursor = {.flat = flat, .owner = owner};
    for (; cursor.item < flat->shares.count; cursor.item++) cursor.left += item_bytes(&cursor);
    cursor.item = 0;
    skip_behind(&cursor);
    return cursor;
}

static void cursor_advance(Cursor *cursor, size_t bytes) {
    cursor->left -= bytes;
    while (bytes > 0) {
        size_t run = item_bytes(cursor) - cursor->within, n = run < bytes ? run : bytes;
        cursor->within += n;
        bytes -= n;
        skip_behind(cursor);
    }
}

// What is next in one stretch.
static struct iovec cursor_run(const Cursor *cursor) {
    const Share *share = &cursor->flat->shares.items[cursor->item];
    size_t offset = (size_t)(share->offset - cursor->flat->origin) * dtype_bytes(cursor->flat->dtype);
    return (struct iovec){cursor->flat->bytes + offset + cursor->within, item_bytes(cursor) - cursor->within};
}

static size_t cursor_runs(Cursor cursor, struct iovec runs[RUNS]) {
    size_t count = 0, room = PIECE_BYTES;
    while (cursor.left > 0 && count < RUNS && room > 0) {
        struct iovec run = cursor_run(&cursor);
        if (run.iov_len > room) run.iov_len = room;
        room -= run.iov_len;
        cursor_advance(&cursor, run.iov_len);
        runs[count++] = run;
    }
    return count;
}

// ---- a turn ----

typedef struct {
    Comm *comm;
    Host *host;
    Cursor out, in;
    bool adds;   // else what comes is copied
    size_t held; // bytes in `piece`: less than an element between calls
} Turn;

#define ADD(type)                                                                                        \
    do {                                                                                                 \
        type *sums = run.iov_base;                                                                       \
        const type *terms = (const type *)from;                                                          \
        for (size_t i = 0; i < run.iov_len / sizeof(type); i++) sums[i] = terms[i] + sums[i];            \
    } while (0)

static void add_run(struct iovec run, const char *from, DType dtype) {
    if (dtype == DTYPE_F32) ADD(float);
    else ADD(double);
}

// The whole elements in `piece`.
static void add_piece(Turn *turn) {
    size_t element = dtype_bytes(turn->in.flat->dtype), whole = turn->held / element * element;
    for (size_t done = 0; done < whole;) {
        struct iovec run = cursor_run(&turn->in);
        if (run.iov_len > whole - done) run.iov_len = whole - done;
        add_run(run, turn->host->piece + done, turn->in.flat->dtype);
        cursor_advance(&turn->in, run.iov_len);
        done += run.iov_len;
    }
    turn->held -= whole;
    memmove(turn->host->piece, turn->host->piece + whole, turn->held);
}

static bool waits(ssize_t result) { return result < 0 && (errno == EAGAIN || errno == EINTR); }

static _Noreturn void lose(const Turn *turn, int other) {
    ranks_lost(turn->comm->ranks, "its connection to rank %d, of the ring, was cut: %s" RANKS_ADVICE, other,
               errno ? strerror(errno) : "the other side closed it");
}

// Both return whether anything moved.
static bool send_some(Turn *turn) {
    struct iovec runs[RUNS];
    if (turn->out.left == 0) return false;
    struct msghdr message = {.msg_iov = runs, .msg_iovlen = cursor_runs(turn->out, runs)};
    ssize_t n = sendmsg(turn->host->next, &message, MSG_NOSIGNAL);
    if (waits(n)) return false;
    if (n < 0) lose(turn, (turn->comm->rank + 1) % turn->comm->size);
    cursor_advance(&turn->out, (size_t)n);
    return true;
}

static bool receive_some(Turn *turn) {
    struct iovec runs[RUNS];
    if (turn->in.left == 0) return false;
    struct msghdr message = {.msg_iov = runs, .msg_iovlen = 1};
    if (turn->adds) {
        size_t missing = turn->in.left - turn->held, room = PIECE_BYTES - turn->held;
        runs[0] = (struct iovec){turn->host->piece + turn->held, missing < room ? missing : room};
    } else {
        message.msg_iovlen = cursor_runs(turn->in, runs);
    }
    ssize_t n = recvmsg(turn->host->previous, &message, 0);
    if (waits(n)) return false;
    if (n == 0) errno = 0;
    if (n <= 0) lose(turn, (turn->comm->rank + turn->comm->size - 1) % turn->comm->size);
    turn->held += turn->adds ? (size_t)n : 0;
    if (turn->adds) add_piece(turn);
    else cursor_advance(&turn->in, (size_t)n);
    return true;
}

static void take_turn(Turn *turn) {
    while (turn->out.left > 0 || turn->in.left > 0) {
        bool sent = send_some(turn), received = receive_some(turn);
        if (sent || received) continue;
        struct pollfd items[2] = {{.fd = turn->out.left ? turn->host->next : -1, .events = POLLOUT},
                                  {.fd = turn->in.left ? turn->host->previous : -1, .events = POLLIN}};
        socket_poll(items, 2, INFINITY);
    }
}

// Sends the part of rank `first`, then those of the ranks before it.
static void go_round(Comm *comm, const Flat *flat, int first, bool adds) {
    for (int turn = 0; turn < comm->size - 1; turn++) {
        int out = (first - turn + 2 * comm->size) % comm->size, in = (out - 1 + comm->size) % comm->size;
        take_turn(&(Turn){.comm = comm, .host = comm->own, .out = cursor_begin(flat, out), .in = cursor_begin(flat, in),
                          .adds = adds});
    }
}

static void reduce_flat(Comm *comm, const Flat *flat) { go_round(comm, flat, comm->rank - 1, true); }
static void gather_flat(Comm *comm, const Flat *flat) { go_round(comm, flat, comm->rank, false); }

// ---- tensors of a device ----

static void check(const Comm *comm, Tensor flat, Shares shares) {
    int64_t end = 0;
    REQUIRE(tensor_contiguous(flat), "a tensor in a ring must be contiguous");
    for (int64_t i = 0; i < shares.count; i++) {
        const Share *share = &shares.items[i];
        REQUIRE(share->offset >= end && share->count >= 0 && share->owner >= 0 && share->owner < comm->size,
                "share %ld: offset %ld, count %ld, owner %d", i, share->offset, share->count, share->owner);
        end = share->offset + share->count;
    }
    REQUIRE(end <= tensor_count(flat), "shares end at %ld, the tensor at %ld", end, tensor_count(flat));
}

static void *take_staging(Comm *comm, size_t bytes) {
    Host *host = comm->own;
    if (host->staging_bytes < bytes) {
        if (host->staging) comm->kernels->return_host_memory(host->staging, host->staging_bytes);
        host->staging = comm->kernels->take_host_memory(bytes);
        if (!host->staging) ranks_fail(comm->ranks, "no %zu bytes of host memory for tensors to be sent", bytes);
        host->staging_bytes = bytes;
    }
    return host->staging;
}

static Flat open_flat(Comm *comm, Tensor tensor, Shares shares) {
    check(comm, tensor, shares);
    Flat flat = {.bytes = tensor.data, .dtype = tensor.dtype, .shares = shares};
    if (comm->kernels->is_host() || shares.count == 0) return flat;
    const Share *last = &shares.items[shares.count - 1];
    flat.origin = shares.items[0].offset;
    flat.bytes = take_staging(comm, (size_t)(last->offset + last->count - flat.origin) * dtype_bytes(tensor.dtype));
    return flat;
}

// Between the device and the staging memory: the shares of `owner`, or of all for -1.
static void move(Comm *comm, Tensor tensor, const Flat *flat, int owner, bool up) {
    size_t element = dtype_bytes(flat->dtype);
    for (int64_t i = 0; i < flat->shares.count && !comm->kernels->is_host(); i++) {
        const Share *share = &flat->shares.items[i];
        if (share->count == 0 || (owner >= 0 && share->owner != owner)) continue;
        Tensor part = tensor_1d((char *)tensor.data + (size_t)share->offset * element, flat->dtype, share->count);
        char *host = flat->bytes + (size_t)(share->offset - flat->origin) * element;
        if (up) comm->kernels->upload(part, host);
        else comm->kernels->download(host, part);
    }
}

// ---- the row ----

static int64_t reduce(Comm *comm, Tensor tensor, Shares shares) {
    REQUIRE(tensor.dtype == DTYPE_F32 || tensor.dtype == DTYPE_F64, "no sums of %s", dtype_name(tensor.dtype));
    Flat flat = open_flat(comm, tensor, shares);
    move(comm, tensor, &flat, -1, false);
    reduce_flat(comm, &flat);
    move(comm, tensor, &flat, comm->rank, true);
    return 0;
}

static int64_t gather(Comm *comm, Tensor tensor, Shares shares) {
    Flat flat = open_flat(comm, tensor, shares);
    move(comm, tensor, &flat, comm->rank, false);
    gather_flat(comm, &flat);
    move(comm, tensor, &flat, -1, true);
    return 0;
}

static int64_t sum(Comm *comm, Tensor tensor) {
    REQUIRE(tensor.dtype == DTYPE_F32 || tensor.dtype == DTYPE_F64, "no sums of %s", dtype_name(tensor.dtype));
    int64_t count = tensor_count(tensor);
    Share *items = memory_take(comm->size, sizeof *items, "shares of ranks");
    for (int i = 0; i < comm->size; i++) {
        int64_t begin = count * i / comm->size;
        items[i] = (Share){begin, count * (i + 1) / comm->size - begin, i};
    }
    Flat flat = open_flat(comm, tensor, (Shares){items, comm->size});
    move(comm, tensor, &flat, -1, false);
    reduce_flat(comm, &flat);
    gather_flat(comm, &flat);
    move(comm, tensor, &flat, -1, true);
    free(items);
    return 0;
}

static void close_host(Comm *comm) {
    Host *host = comm->own;
    if (host->staging) comm->kernels->return_host_memory(host->staging, host->staging_bytes);
    close(host->next);
    close(host->previous);
    free(host->piece);
    free(host);
}

static const CommRow row_host = {.name = "host",
                                 .sum = sum,
                                 .reduce = reduce,
                                 .gather = gather,
                                 .wait = row_wait_for_nothing,
                                 .take_memory = row_take_memory,
                                 .return_memory = row_return_memory,
                                 .close = close_host};

bool comm_host(Comm *comm, const Kernels *kernels, Ranks *ranks, Errors *errors) {
    Host *host = memory_take(1, sizeof *host, "a ring");
    host->piece = memory_take(PIECE_BYTES, 1, "a ring");
    *comm = (Comm){.row = &row_host, .kernels = kernels, .ranks = ranks, .rank = ranks_rank(ranks),
                   .size = ranks_size(ranks), .own = host};
    if (ring_connect(ranks, &host->next, &host->previous, errors)) return true;
    free(host->piece);
    free(host);
    *comm = (Comm){0};
    return false;
}
