// The NCCL row: on one GPU with one rank, as far as that goes, and in the simulator with ranks as processes.
#include <unistd.h>

#include "tests/support_ranks.h"
#include "tests/test.h"

#ifdef THALWEG_NCCL

#if THALWEG_SIMULATED
#include "tests/cudasim/control.h"
#endif

enum { COUNT = 3001, SHARES = 24, PROGRAM = 3 };
static const double timeout = 20;

static Comm open_comm(const Kernels *k, const Launch *launch) {
    Comm comm = {0};
    Errors errors = {0};
    Ranks *ranks = launch ? test_ranks_open(launch, timeout) : NULL;
    k->open(1, launch ? launch->local_rank : 0, &errors);
    errors_exit_if_any(&errors);
    comm_nccl(&comm, k, ranks, &errors);
    errors_exit_if_any(&errors);
    return comm;
}

static void close_comm(Comm *comm) {
    Ranks *ranks = comm->ranks;
    const Kernels *k = comm->kernels;
    comm_close(comm);
    k->close();
    if (ranks) ranks_close(ranks);
}

// ---- a step's worth of calls ----

// What rank `rank` has at element i: small integers, so that every order of a sum gives the same.
static float planted(int rank, int64_t i, int turn) { return (float)((i * 7 + rank * 13 + turn * 5) % 101 - 50); }

static float planted_sum(int size, int64_t i, int turn) {
    float sum = 0;
    for (int rank = 0; rank < size; rank++) sum += planted(rank, i, turn);
    return sum;
}

typedef struct {
    Comm *comm;
    Shares shares;
    Tensor source, work, reduced, gathered, total;
} Step;

// The row's own entries, as comm.h's do nothing for one rank.
static void queue_step(void *context) {
    Step *s = context;
    const CommRow *row = s->comm->row;
    const Kernels *k = s->comm->kernels;
    k->copy(s->work, s->source);
    k->copy(s->total, s->source);
    int64_t reduced = row->reduce(s->comm, s->work, s->shares), summed = row->sum(s->comm, s->total);
    row->wait(s->comm, reduced);
    k->copy(s->reduced, s->work);
    int64_t gathered = row->gather(s->comm, s->work, s->shares);
    row->wait(s->comm, summed);
    row->wait(s->comm, gathered);
    k->copy(s->gathered, s->work);
}

static int owner_of(Shares shares, int64_t i) {
    for (int64_t k = 0; k < shares.count; k++)
        if (i >= shares.items[k].offset && i < shares.items[k].offset + shares.items[k].count)
            return shares.items[k].owner;
    return -1;
}

static void check_step(const Step *s, int turn) {
    static float reduced[COUNT], gathered[COUNT], total[COUNT];
    const Comm *comm = s->comm;
    comm->kernels->download(reduced, s->reduced);
    comm->kernels->download(gathered, s->gathered);
    comm->kernels->download(total, s->total);
    for (int64_t i = 0; i < COUNT; i++) {
        int owner = owner_of(s->shares, i);
        float sum = planted_sum(comm->size, i, turn), all = owner < 0 ? planted(comm->rank, i, turn) : sum;
        REQUIRE(total[i] == sum, "turn %d: sum of %ld is %g, not %g", turn, i, total[i], sum);
        REQUIRE(gathered[i] == all, "turn %d: element %ld is gathered as %g, not %g", turn, i, gathered[i], all);
        if (owner == comm->rank || owner < 0)
            REQUIRE(reduced[i] == all, "turn %d: element %ld is reduced to %g, not %g", turn, i, reduced[i], all);
    }
}

// Turn 0 as it comes; turns 1 to 4 as a program: as it comes, recorded, replayed twice.
static void run_steps(Comm *comm, Shares shares) {
    static float values[COUNT];
    Step s = {.comm = comm, .shares = shares};
    Tensor *tensors[] = {&s.source, &s.work, &s.reduced, &s.gathered, &s.total};
    for (int i = 0; i < 5; i++) {
        void *memory = comm->row->take_memory(comm, sizeof values);
        REQUIRE(memory, "no memory");
        *tensors[i] = tensor_1d(memory, DTYPE_F32, COUNT);
        comm->kernels->download(values, *tensors[i]);
        for (int64_t j = 0; j < COUNT; j++) REQUIRE(values[j] == 0, "memory is not zeroed");
    }
    for (int turn = 0; turn < 5; turn++) {
        for (int64_t i = 0; i < COUNT; i++) values[i] = planted(comm->rank, i, turn);
        comm->kernels->upload(s.source, values);
        if (turn == 0) queue_step(&s);
        else kernels_run(comm->kernels, PROGRAM, queue_step, &s);
        check_step(&s, turn);
    }
    for (int i = 0; i < 5; i++) comm->row->return_memory(comm, tensors[i]->data, sizeof values);
}

// ---- shares ----

typedef struct {
    Share items[SHARES];
    int64_t count, end;
} List;

static void add(List *list, int64_t count, int owner) {
    list->items[list->count++] = (Share){list->end, count, owner};
    list->end += count;
}

// A run of elements cut as the optimizer does it.
static void add_run(List *list, int64_t count, int size) {
    int64_t part = count / size / 4 * 4;
    for (int rank = 0; rank < size; rank++) add(list, rank < size - 1 ? part : count - part * (size - 1), rank);
}

// A unit: runs and matrices of single owners, adjacent in every way, with gaps between.
static List make_unit(int size) {
    List list = {.end = 1};
    add(&list, 40, 0); // not a part of the run behind it
    add_run(&list, 250, size);
    add(&list, 60, size - 1); // one piece with the rest of the run
    add(&list, 33, size - 1);
    list.end += 7;
    add_run(&list, 3, size); // nothing for the others
    add(&list, 100, 1 % size);
    add(&list, 100, 0);
    list.end += 2;
    add_run(&list, 1000, size);
    add_run(&list, 64, size);
    list.end += 2;
    add(&list, 5, 0); // a gap between two of one owner
    list.end += 3;
    add(&list, 6, 0);
    return list;
}

static void run_units(Comm *comm) {
    List unit = make_unit(comm->size), run = {0};
    add_run(&run, COUNT, comm->size);
    run_steps(comm, (Shares){unit.items, unit.count});
    run_steps(comm, (Shares){run.items, run.count});
}

TEST(one_rank_makes_every_call) {
    Text name = {0};
    Comm comm = open_comm(&cuda_kernels, NULL);
    assert_int_equal(comm.size, 1);
    assert_string_equal(comm.row->name, "nccl");
    comm_nccl_describe(&name);
    assert_int_equal(strncmp(text_string(&name), "NCCL 2.", 7), 0);
    text_close(&name);
    run_units(&comm);
    double sums[] = {0.1, -3};
    Tensor t = tensor_1d(comm.row->take_memory(&comm, sizeof sums), DTYPE_F64, 2);
    comm.kernels->upload(t, sums);
    comm.row->wait(&comm, comm.row->sum(&comm, t));
    comm.kernels->download(sums, t);
    assert_true(sums[0] == 0.1 && sums[1] == -3);
    close_comm(&comm); // gives back what is left
}

#if THALWEG_SIMULATED

// ---- several ranks ----

static void many_ranks(const Launch *launch, void *unused) {
    (void)unused;
    Comm comm = open_comm(&cuda_kernels, launch);
    run_units(&comm);
    close_comm(&comm);
}

TEST(several_ranks_make_every_call) {
    setenv("CUDASIM_DEVICES", "4", 1);
    for (int size = 2; size <= 4; size++) test_ranks_run(size, many_ranks, NULL);
    setenv("THALWEG_GRAPHS", "0", 1);
    test_ranks_run(2, many_ranks, NULL);
    unsetenv("THALWEG_GRAPHS");
    unsetenv("CUDASIM_DEVICES");
}

static void other_types(const Launch *launch, void *unused) {
    (void)unused;
    Comm comm = open_comm(&cuda_kernels, launch);
    double sums[] = {0.1, launch->rank}, expected = 0;
    for (int rank = 0; rank < launch->size; rank++) expected += 0.1;
    Tensor t = tensor_1d(comm.row->take_memory(&comm, sizeof sums), DTYPE_F64, 2);
    comm.kernels->upload(t, sums);
    comm_wait(&comm, comm_sum(&comm, t));
    comm.kernels->download(sums, t);
    REQUIRE(sums[0] == expected && sums[1] == 3, "%g, %g", sums[0], sums[1]);
    uint16_t weights[12];
    for (int i = 0; i < 12; i++) weights[i] = bf16_from_float((float)launch->rank);
    const Share items[] = {{0, 3, 2}, {3, 4, 0}, {8, 3, 1}};
    t = tensor_1d(comm.row->take_memory(&comm, sizeof weights), DTYPE_BF16, 12);
    comm.kernels->upload(t, weights);
    comm_wait(&comm, comm_gather(&comm, t, (Shares){items, 3}));
    comm.kernels->download(weights, t);
    static const int owners[] = {2, 2, 2, 0, 0, 0, 0, -1, 1, 1, 1, -1};
    for (int i = 0; i < 12; i++)
        REQUIRE(bf16_to_float(weights[i]) == (float)(owners[i] < 0 ? launch->rank : owners[i]), "weight %d", i);
    close_comm(&comm);
}

TEST(sums_in_fp64_and_weights_in_bf16) {
    setenv("CUDASIM_DEVICES", "3", 1);
    test_ranks_run(3, other_types, NULL);
    unsetenv("CUDASIM_DEVICES");
}

static void count_calls(const Launch *launch, void *unused) {
    static const char *const names[] = {"ncclReduceScatter", "ncclReduce", "ncclAllGather", "ncclBroadcast",
                                        "ncclAllReduce"};
    static const uint64_t expected[] = {3, 6, 3, 6, 0}; // see make_unit
    uint64_t before[5];
    (void)unused;
    for (int i = 0; i < 5; i++) before[i] = cudasim_collectives(names[i]);
    Comm comm = open_comm(&cuda_kernels, launch);
    List unit = make_unit(comm.size);
    Shares shares = {unit.items, unit.count};
    Tensor t = tensor_1d(comm.row->take_memory(&comm, COUNT * sizeof(float)), DTYPE_F32, COUNT);
    comm_wait(&comm, comm_reduce(&comm, t, shares));
    comm_wait(&comm, comm_gather(&comm, t, shares));
    for (int i = 0; i < 5; i++)
        REQUIRE(cudasim_collectives(names[i]) - before[i] == expected[i], "%s: %ld calls, not %ld", names[i],
                (long)(cudasim_collectives(names[i]) - before[i]), (long)expected[i]);
    close_comm(&comm);
}

TEST(equal_parts_are_one_call) {
    setenv("CUDASIM_DEVICES", "4", 1);
    test_ranks_run(2, count_calls, NULL);
    unsetenv("CUDASIM_DEVICES");
}

// ---- memory ----

extern int cudaMalloc(void **memory, size_t bytes), cudaFree(void *memory);

TEST(registered_memory_counts_as_the_callers) {
    enum { BYTES = 8 << 20 };
    void *beside;
    Comm comm = open_comm(&cuda_kernels, NULL);
    size_t own = cuda_kernels.workspace_bytes(), used = cuda_kernels.used_bytes();
    void *memory = comm.row->take_memory(&comm, BYTES);
    assert_non_null(memory);
    assert_true(cuda_kernels.used_bytes() >= used + BYTES);
    assert_int_equal(cuda_kernels.workspace_bytes(), own);
    comm.row->return_memory(&comm, memory, BYTES);
    cudasim_refuse_memory(1);
    assert_null(comm.row->take_memory(&comm, BYTES));
    cudasim_refuse_memory(0);
    memory = comm.row->take_memory(&comm, BYTES);
    assert_non_null(memory);
    cuda_kernels.used_bytes();
    assert_int_equal(cuda_kernels.workspace_bytes(), own);
    assert_int_equal(cudaMalloc(&beside, BYTES), 0);
    cuda_kernels.used_bytes();
    assert_int_equal(cuda_kernels.workspace_bytes(), own + BYTES); // only what is held now is the callers'
    cudaFree(beside);
    close_comm(&comm);
}

// ---- what goes wrong ----

static void share_gpus(const Launch *launch, void *unused) {
    (void)unused;
    Comm comm;
    Errors errors = {0};
    Ranks *ranks = test_ranks_open(launch, timeout);
    REQUIRE(cuda_kernels.open(1, launch->rank % 2, &errors), "%s", text_string(&errors.text));
    REQUIRE(!comm_nccl(&comm, &cuda_kernels, ranks, &errors), "ranks may share a GPU");
    const char *told = text_string(&errors.text);
    REQUIRE(errors.exit_code == EXIT_USAGE && strstr(told, "ranks 0 and 2 both use GPU 0000:01:00.0 of ") &&
            strstr(told, "dist.comm=host") && strchr(told, '\n') == told + strlen(told) - 1, "%s", told);
    errors_close(&errors);
    cuda_kernels.close();
    ranks_close(ranks);
}

TEST(ranks_do_not_share_a_gpu) {
    setenv("CUDASIM_DEVICES", "2", 1);
    test_ranks_run(3, share_gpus, NULL);
    unsetenv("CUDASIM_DEVICES");
}

static void die_in_the_middle(const Launch *launch, void *unused) {
    (void)unused;
    Comm comm = open_comm(&cuda_kernels, launch);
    if (launch->rank == 1) _Exit(9);
    run_units(&comm);
    close_comm(&comm);
}

TEST(a_rank_that_dies_ends_the_others) {
    setenv("CUDASIM_DEVICES", "3", 1);
    TestRanks ranks = {0};
    test_ranks_add(&ranks, test_launch(3), 3, die_in_the_middle, NULL);
    test_ranks_wait(&ranks, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ranks.codes[i], i == 1 ? 9 : EXIT_COMM);
        if (i != 1 && !strstr(ranks.said[i], "rank 1 is gone")) fail_msg("rank %d: %s", i, ranks.said[i]);
    }
    unsetenv("CUDASIM_DEVICES");
}

// Rank 1 is there, but not its communicator: NCCL alone can tell.
static void leave_early(const Launch *launch, void *unused) {
    (void)unused;
    Comm comm = open_comm(&cuda_kernels, launch);
    if (launch->rank == 1) {
        comm.row->close(&comm);
        ranks_patient(comm.ranks, true);
        for (;;) pause();
    }
    run_units(&comm);
}

TEST(what_nccl_says_of_a_failure_ends_the_job) {
    setenv("CUDASIM_DEVICES", "3", 1);
    TestRanks ranks = {0};
    test_ranks_add(&ranks, test_launch(3), 3, leave_early, NULL);
    test_ranks_wait(&ranks, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ranks.codes[i], EXIT_COMM);
        if (!strstr(ranks.said[i], "NCCL: remote process exited") || !strstr(ranks.said[i], "NCCL_DEBUG=INFO"))
            fail_msg("rank %d: %s", i, ranks.said[i]);
        if (i != 1 && !strstr(ranks.said[i], " aborts")) fail_msg("rank %d leaves its work behind", i);
    }
    unsetenv("CUDASIM_DEVICES");
}

// ---- which GPU ----

extern int cudaGetDevice(int *device);

TEST(the_gpu_that_is_asked_for_is_opened) {
    int present = -1;
    assert_int_equal(cuda_kernels.device_count(), 1);
    setenv("CUDASIM_DEVICES", "3", 1);
    assert_int_equal(cuda_kernels.device_count(), 3);
    for (int64_t wrong = -1; wrong <= 3; wrong += 4) {
        Errors errors = {0};
        assert_false(cuda_kernels.open(1, wrong, &errors));
        assert_int_equal(errors.exit_code, EXIT_USAGE);
        assert_non_null(strstr(text_string(&errors.text), wrong < 0 ? "there is no GPU -1" : "there is no GPU 3"));
        assert_non_null(strstr(text_string(&errors.text), "the driver shows 3"));
        errors_close(&errors);
    }
    for (int64_t number = 2; number >= 0; number--) {
        Errors errors = {0};
        if (!cuda_kernels.open(1, number, &errors)) fail_msg("%s", text_string(&errors.text));
        cudaGetDevice(&present);
        assert_int_equal(present, number);
        cuda_kernels.close();
    }
    unsetenv("CUDASIM_DEVICES");
}

#endif

#else

TEST(this_build_has_no_nccl) { skip(); }

#endif
