#include "tests/support_shared.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support.h"

enum { ROOM = 1 << 20, SECONDS = 300 }; // bytes of a rank's tensor; until a call hangs

// What all ranks see.
typedef struct {
    pthread_barrier_t barrier;
    int64_t calls[TEST_RANKS][3]; // operation, elements, shares: of the call under way
    _Alignas(64) char room[TEST_RANKS][ROOM];
} Board;

// ---- the row ----

enum { SUM, REDUCE, GATHER };

static Board *board_of(Comm *comm) { return comm->own; }
static void meet(Comm *comm) { pthread_barrier_wait(&board_of(comm)->barrier); }

static void die(Comm *comm, const char *what) {
    fprintf(stderr, "rank %d of %d: %s\n", comm->rank, comm->size, what);
    fflush(stderr);
    _exit(EXIT_INTERNAL);
}

// All ranks lay out their tensors and see that they make the same call.
static void begin(Comm *comm, int operation, Tensor values, int64_t shares) {
    Board *board = board_of(comm);
    const int64_t call[3] = {operation, tensor_count(values), shares};
    if (tensor_size_bytes(values) > ROOM) die(comm, "a tensor does not fit");
    memcpy(board->calls[comm->rank], call, sizeof call);
    comm->kernels->download(board->room[comm->rank], values);
    meet(comm);
    for (int rank = 0; rank < comm->size; rank++)
        if (memcmp(board->calls[rank], call, sizeof call) != 0) die(comm, "another rank makes another call");
}

static char *element(Comm *comm, int rank, DType dtype, int64_t index) {
    return board_of(comm)->room[rank] + index * (int64_t)dtype_bytes(dtype);
}

// Elements [begin, begin + count) of all ranks, added up by rank, to the tensor there.
static void add_up(Comm *comm, Tensor values, int64_t begin, int64_t count) {
    char *sums = test_take((size_t)count * dtype_bytes(values.dtype));
    for (int rank = 0; rank < comm->size; rank++) {
        const void *own = element(comm, rank, values.dtype, begin);
        bool wide = values.dtype == DTYPE_F64;
        for (int64_t i = 0; i < count && wide; i++) ((double *)sums)[i] += ((const double *)own)[i];
        for (int64_t i = 0; i < count && !wide; i++) ((float *)sums)[i] += ((const float *)own)[i];
    }
    comm->kernels->upload(tensor_slice(values, 0, begin, count), sums);
    free(sums);
}

static void lose(Comm *comm, Tensor values) {
    size_t bytes = tensor_size_bytes(values);
    char *lost = test_take(bytes);
    memset(lost, 0xff, bytes); // NaN in any dtype
    comm->kernels->upload(values, lost);
    free(lost);
}

static int64_t sum(Comm *comm, Tensor values) {
    if (values.dtype != DTYPE_F32 && values.dtype != DTYPE_F64) die(comm, "a sum of what is not fp32 or fp64");
    begin(comm, SUM, values, 0);
    add_up(comm, values, 0, tensor_count(values));
    meet(comm);
    return 1;
}

static int64_t reduce(Comm *comm, Tensor flat, Shares shares) {
    begin(comm, REDUCE, flat, shares.count);
    for (int64_t i = 0; i < shares.count; i++) {
        Share s = shares.items[i];
        if (s.owner == comm->rank) add_up(comm, flat, s.offset, s.count);
        else lose(comm, tensor_slice(flat, 0, s.offset, s.count));
    }
    meet(comm);
    return 1;
}

static int64_t gather(Comm *comm, Tensor flat, Shares shares) {
    begin(comm, GATHER, flat, shares.count);
    for (int64_t i = 0; i < shares.count; i++) {
        Share s = shares.items[i];
        if (s.owner != comm->rank)
            comm->kernels->upload(tensor_slice(flat, 0, s.offset, s.count),
                                  element(comm, s.owner, flat.dtype, s.offset));
    }
    meet(comm);
    return 1;
}

static void wait_for(Comm *comm, int64_t mark) { (void)comm, (void)mark; }
static void *take_memory(Comm *comm, size_t bytes) { return comm->kernels->take_memory(bytes); }
static void return_memory(Comm *comm, void *memory, size_t bytes) { comm->kernels->return_memory(memory, bytes); }
static void leave(Comm *comm) { (void)comm; }

static const CommRow row_test = {.name = "test", .sum = sum, .reduce = reduce, .gather = gather, .wait = wait_for,
                                 .take_memory = take_memory, .return_memory = return_memory, .close = leave};

// ---- processes ----

static void *share(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail_msg("no memory that ranks share: %zu bytes", bytes);
    return memory;
}

static Board *open_board(int ranks) {
    Board *board = share(sizeof *board);
    pthread_barrierattr_t shared;
    pthread_barrierattr_init(&shared);
    pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    if (pthread_barrier_init(&board->barrier, &shared, (unsigned)ranks) != 0)
        fail_msg("no barrier for %d ranks", ranks);
    pthread_barrierattr_destroy(&shared);
    return board;
}

// A test that fails in a child must not go on as if it were the program.
static void become_rank(pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(EXIT_INTERNAL);
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    signal(SIGABRT, SIG_DFL);
    alarm(SECONDS);
}

// Waits for all; the first that fails ends the others, which would wait for it.
static void await(const pid_t *children, int ranks, int statuses[]) {
    for (int left = ranks; left > 0;) {
        int status, rank = 0;
        pid_t child = waitpid(-1, &status, 0);
        while (rank < ranks && children[rank] != child) rank++;
        if (rank == ranks) continue;
        statuses[rank] = status;
        left--;
        for (int other = 0; other < ranks && status != 0; other++)
            if (statuses[other] < 0) kill(children[other], SIGKILL);
    }
}

void ranks_run(int ranks, const Kernels *kernels, RanksCall *call, const void *context, size_t result_bytes,
               void *const results[]) {
    if (ranks < 1 || ranks > TEST_RANKS) fail_msg("%d ranks", ranks);
    size_t each = (result_bytes + 63) / 64 * 64, bytes = each * (size_t)ranks;
    Board *board = open_board(ranks);
    char *left = share(bytes);
    pid_t children[TEST_RANKS], parent = getpid();
    int statuses[TEST_RANKS], failed = -1;
    fflush(NULL);
    for (int rank = 0; rank < ranks; rank++) {
        statuses[rank] = -1;
        children[rank] = fork();
        if (children[rank] < 0) DIE(EXIT_INTERNAL, "no process for rank %d of a test", rank);
        if (children[rank] > 0) continue;
        become_rank(parent);
        Comm comm = {.row = &row_test, .kernels = kernels, .rank = rank, .size = ranks, .own = board};
        call(&comm, context, left + each * (size_t)rank);
        fflush(NULL);
        _exit(0);
    }
    await(children, ranks, statuses);
    for (int rank = 0; rank < ranks; rank++) {
        memcpy(results[rank], left + each * (size_t)rank, result_bytes);
        bool killed = WIFSIGNALED(statuses[rank]) && WTERMSIG(statuses[rank]) == SIGKILL; // by us
        if (statuses[rank] != 0 && (failed < 0 || !killed)) failed = rank;
    }
    munmap(board, sizeof *board);
    munmap(left, bytes);
    if (failed >= 0) fail_msg("rank %d of %d ended with status 0x%x", failed, ranks, statuses[failed]);
}
