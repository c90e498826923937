#include "comm/row.h"

// ---- one process ----

static int64_t nothing_to_sum(Comm *comm, Tensor values) {
    (void)comm, (void)values;
    return 0;
}

static int64_t nothing_to_send(Comm *comm, Tensor flat, Shares shares) {
    (void)comm, (void)flat, (void)shares;
    return 0;
}

void row_wait_for_nothing(Comm *comm, int64_t mark) { (void)comm, (void)mark; }
void *row_take_memory(Comm *comm, size_t bytes) { return comm->kernels->take_memory(bytes); }
void row_return_memory(Comm *comm, void *memory, size_t bytes) { comm->kernels->return_memory(memory, bytes); }
static void nothing_to_close(Comm *comm) { (void)comm; }

static const CommRow row_none = {.name = "none",
                                 .queued = true,
                                 .sum = nothing_to_sum,
                                 .reduce = nothing_to_send,
                                 .gather = nothing_to_send,
                                 .wait = row_wait_for_nothing,
                                 .take_memory = row_take_memory,
                                 .return_memory = row_return_memory,
                                 .close = nothing_to_close};

Comm comm_none(const Kernels *kernels) { return (Comm){.row = &row_none, .kernels = kernels, .size = 1}; }

void comm_close(Comm *comm) {
    if (comm->row) comm->row->close(comm);
    *comm = (Comm){0};
}

// ---- what is sent ----

static int64_t owned(Shares shares, int rank) {
    int64_t count = 0;
    for (int64_t i = 0; i < shares.count; i++)
        if (shares.items[i].owner == rank) count += shares.items[i].count;
    return count;
}

static int64_t all_of(Shares shares) {
    int64_t count = 0;
    for (int64_t i = 0; i < shares.count; i++) count += shares.items[i].count;
    return count;
}

// Every share but the own one passes a rank on its way to its owner.
double comm_reduce_bytes(Shares shares, DType dtype, int rank, int size) {
    return size > 1 ? (double)((all_of(shares) - owned(shares, rank)) * (int64_t)dtype_bytes(dtype)) : 0;
}

// Every share but that of the next rank, where its way ends.
double comm_gather_bytes(Shares shares, DType dtype, int rank, int size) {
    return size > 1 ? (double)((all_of(shares) - owned(shares, (rank + 1) % size)) * (int64_t)dtype_bytes(dtype)) : 0;
}

double comm_sum_bytes(int64_t elements, DType dtype, int size) {
    return 2.0 * (size - 1) / size * (double)elements * (double)dtype_bytes(dtype);
}

// ---- calls ----

// A range for profilers: of a call that is recorded they see the recording.
static void begin(Comm *comm, const char *what, int64_t numbers) {
    comm->kernels->range_begin(what);
    ranks_at(comm->ranks, "%s of %ld numbers", what, numbers);
}

static int64_t end(Comm *comm, int64_t mark) {
    comm->kernels->range_end();
    return mark;
}

int64_t comm_sum(Comm *comm, Tensor values) {
    if (comm->size == 1) return 0;
    begin(comm, "sum", tensor_count(values));
    return end(comm, comm->row->sum(comm, values));
}

int64_t comm_reduce(Comm *comm, Tensor flat, Shares shares) {
    if (comm->size == 1 || shares.count == 0) return 0;
    begin(comm, "reduction", all_of(shares));
    return end(comm, comm->row->reduce(comm, flat, shares));
}

int64_t comm_gather(Comm *comm, Tensor flat, Shares shares) {
    if (comm->size == 1 || shares.count == 0) return 0;
    begin(comm, "gathering", all_of(shares));
    return end(comm, comm->row->gather(comm, flat, shares));
}

void comm_wait(Comm *comm, int64_t mark) {
    if (comm->size > 1 && mark > 0) comm->row->wait(comm, mark);
}
