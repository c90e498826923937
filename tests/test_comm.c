// Collectives of the row host, against plain sums: ranks are processes. With CUDA also with memory of a device.
#include "runtime/file.h"
#include "tests/support_ranks.h"
#include "tests/test.h"

static const double timeout = 20;

static Comm open_comm(const Launch *launch, const Kernels *kernels) {
    Comm comm = {0};
    Errors errors = {0};
    kernels->open(1, 0, &errors);
    Ranks *ranks = test_ranks_open(launch, timeout);
    if (!ranks) comm = comm_none(kernels);
    else comm_host(&comm, kernels, ranks, &errors);
    errors_exit_if_any(&errors);
    return comm;
}

static void close_comm(Comm *comm) {
    Ranks *ranks = comm->ranks;
    const Kernels *kernels = comm->kernels;
    comm_close(comm);
    ranks_close(ranks);
    kernels->close();
}

// Runs with each backend and 1 to 4 ranks.
static void run_all(void (*work)(const Launch *, void *)) {
    static const Kernels *const backends[] = {
        &cpu_kernels,
#ifdef THALWEG_CUDA
        &cuda_kernels,
#endif
    };
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
        for (int size = 1; size <= 4; size++) test_ranks_run(size, work, (void *)backends[i]);
}

// What `rank` puts at element i: small integers, so that every order of a sum gives the same.
static double planted(int rank, int64_t i) { return (double)((i * 7 + rank * 13 + 3) % 101 - 50); }

static double planted_sum(int size, int64_t i) {
    double sum = 0;
    for (int rank = 0; rank < size; rank++) sum += planted(rank, i);
    return sum;
}

static void put(Tensor t, int64_t i, double value) {
    if (t.dtype == DTYPE_F64) ((double *)t.data)[i] = value;
    else if (t.dtype == DTYPE_F32) ((float *)t.data)[i] = (float)value;
    else if (t.dtype == DTYPE_BF16) ((uint16_t *)t.data)[i] = bf16_from_float((float)value);
    else if (t.dtype == DTYPE_I32) ((int32_t *)t.data)[i] = (int32_t)value;
    else ((int64_t *)t.data)[i] = (int64_t)value;
}

static double get(Tensor t, int64_t i) {
    if (t.dtype == DTYPE_F64) return ((double *)t.data)[i];
    if (t.dtype == DTYPE_F32) return ((float *)t.data)[i];
    if (t.dtype == DTYPE_BF16) return bf16_to_float(((uint16_t *)t.data)[i]);
    if (t.dtype == DTYPE_I32) return ((int32_t *)t.data)[i];
    return (double)((int64_t *)t.data)[i];
}

// A tensor of the device with what this rank plants.
static Tensor plant(Comm *comm, int64_t count, DType dtype) {
    size_t bytes = (size_t)count * dtype_bytes(dtype);
    Tensor host = tensor_1d(test_take(bytes), dtype, count), device = host;
    for (int64_t i = 0; i < count; i++) put(host, i, planted(comm->rank, i));
    device.data = comm->row->take_memory(comm, bytes);
    REQUIRE(device.data, "no %zu bytes", bytes);
    comm->kernels->upload(device, host.data);
    free(host.data);
    return device;
}

// What it holds now, on the host, in its place.
static Tensor fetch(Comm *comm, Tensor device) {
    Tensor host = device;
    host.data = test_take(tensor_size_bytes(device));
    comm->kernels->download(host.data, device);
    comm->row->return_memory(comm, device.data, tensor_size_bytes(device));
    return host;
}

static const DType wide[] = {DTYPE_F32, DTYPE_F64};
static const int64_t counts[] = {1, 2, 3, 5, 64, 1001, 700001};
enum { COUNTS = sizeof counts / sizeof counts[0] };

// ---- sums ----

static void sum_all(const Launch *launch, void *kernels) {
    Comm comm = open_comm(launch, kernels);
    for (int which = 0; which < 2; which++)
        for (int c = 0; c < COUNTS; c++) {
            Tensor t = plant(&comm, counts[c], wide[which]);
            comm_wait(&comm, comm_sum(&comm, t));
            t = fetch(&comm, t);
            for (int64_t i = 0; i < counts[c]; i++)
                REQUIRE(get(t, i) == planted_sum(launch->size, i), "%s %ld: element %ld is %g, not %g",
                        dtype_name(t.dtype), counts[c], i, get(t, i), planted_sum(launch->size, i));
            free(t.data);
        }
    close_comm(&comm);
}

TEST(sums_are_the_sums_of_all_ranks) { run_all(sum_all); }

// Part p of a sum begins with the numbers of rank p + 1, then come those of the next ranks.
static float sum_in_order(const float *const of_rank[], int size, int64_t i, int64_t count) {
    int part = 0;
    while (count * (part + 1) / size <= i) part++;
    float sum = of_rank[(part + 1) % size][i];
    for (int k = 2; k <= size; k++) sum += of_rank[(part + k) % size][i];
    return sum;
}

static void sum_bits(const Launch *launch, void *unused) {
    enum { SIZES = 4, COUNT = 100003 };
    (void)unused;
    Comm comm = open_comm(launch, &cpu_kernels);
    float *of_rank[SIZES], *sum = test_take(COUNT * sizeof(float));
    char hash[HASH_HEX];
    for (int rank = 0; rank < launch->size; rank++) {
        srand48(rank);
        of_rank[rank] = test_take(COUNT * sizeof(float));
        for (int i = 0; i < COUNT; i++) of_rank[rank][i] = (float)(drand48() - 0.5);
    }
    for (int again = 0; again < 3; again++) {
        memcpy(sum, of_rank[launch->rank], COUNT * sizeof(float));
        comm_sum(&comm, tensor_1d(sum, DTYPE_F32, COUNT));
        for (int64_t i = 0; i < COUNT && launch->size > 1; i++) {
            float expected = sum_in_order((const float *const *)of_rank, launch->size, i, COUNT);
            REQUIRE(sum[i] == expected, "element %ld is %.9g, not %.9g", i, sum[i], expected);
        }
        bytes_hash(sum, COUNT * sizeof(float), hash);
        ranks_same(comm.ranks, "sum", hash);
    }
    for (int rank = 0; rank < launch->size; rank++) free(of_rank[rank]);
    free(sum);
    close_comm(&comm);
}

TEST(sums_have_the_same_bits_on_all_ranks_and_every_time) {
    for (int size = 1; size <= 4; size++) test_ranks_run(size, sum_bits, NULL);
}

// ---- shares ----

// Shares over `count` elements with gaps, of sizes that repeat, some empty; the owners go round, and where `one` is set
// rank 1 has none.
static Shares make_shares(int64_t count, int size, bool one) {
    enum { LIMIT = 4096 };
    static const int64_t sizes[] = {4, 0, 17, 1, 300, 12, 3};
    Share *items = test_take(LIMIT * sizeof *items);
    Shares shares = {items, 0};
    int owner = 0;
    for (int64_t offset = 1; offset < count && shares.count < LIMIT; owner++) {
        int64_t left = count - offset, n = shares.count == LIMIT - 1 ? left : sizes[shares.count % 7];
        if (n > left) n = left;
        items[shares.count++] = (Share){offset, n, one && owner % size == 1 ? 0 : owner % size};
        offset += n + (shares.count % 5 == 0 ? 2 : 0);
    }
    return shares;
}

static int owner_of(Shares shares, int64_t i) {
    for (int64_t k = 0; k < shares.count; k++)
        if (i >= shares.items[k].offset && i < shares.items[k].offset + shares.items[k].count)
            return shares.items[k].owner;
    return -1;
}

static void reduce_one(Comm *comm, DType dtype, int64_t count, Shares shares) {
    Tensor t = plant(comm, count, dtype);
    comm_wait(comm, comm_reduce(comm, t, shares));
    t = fetch(comm, t);
    for (int64_t i = 0; i < count; i += count > 10000 ? 97 : 1) {
        int owner = owner_of(shares, i);
        if (owner >= 0 && owner != comm->rank) continue;
        double expected = owner < 0 ? planted(comm->rank, i) : planted_sum(comm->size, i);
        REQUIRE(get(t, i) == expected, "element %ld of %ld is %g, not %g", i, count, get(t, i), expected);
    }
    free(t.data);
}

static void gather_one(Comm *comm, DType dtype, int64_t count, Shares shares) {
    Tensor t = plant(comm, count, dtype);
    comm_wait(comm, comm_gather(comm, t, shares));
    t = fetch(comm, t);
    for (int64_t i = 0; i < count; i += count > 10000 ? 97 : 1) {
        int owner = owner_of(shares, i);
        double expected = planted(owner < 0 ? comm->rank : owner, i);
        REQUIRE(get(t, i) == expected, "element %ld of %ld is %g, not %g", i, count, get(t, i), expected);
    }
    free(t.data);
}

static void share_all(const Launch *launch, void *kernels) {
    static const DType any[] = {DTYPE_F32, DTYPE_F64, DTYPE_BF16, DTYPE_I32, DTYPE_I64};
    Comm comm = open_comm(launch, kernels);
    for (int c = 0; c < COUNTS; c++)
        for (int one = 0; one < 2; one++) {
            Shares shares = make_shares(counts[c], launch->size, one);
            for (int which = 0; which < 2; which++) reduce_one(&comm, wide[which], counts[c], shares);
            for (int which = 0; which < 5; which++) gather_one(&comm, any[which], counts[c], shares);
            free((void *)shares.items);
        }
    close_comm(&comm);
}

TEST(shares_are_reduced_to_their_owners_and_gathered_from_them) { run_all(share_all); }
