// Comm: what ranks do together with tensors of the device. Rows: none (one process), host (a ring of sockets; device
// memory by way of the host's), nccl. All ranks make the same calls in the same order, with the same shapes and shares.
#pragma once

#include "comm/ranks.h"
#include "kernels/kernels.h"

// A range of a flat tensor and the rank that it belongs to.
typedef struct {
    int64_t offset, count; // elements
    int owner;
} Share;
typedef struct {
    const Share *items; // ascending, without overlap
    int64_t count;
} Shares;

typedef struct Comm Comm;

// A row. Calls begin when all work that is queued on the device is done, and run beside what is queued later; what they
// return is waited for by `wait`. Sums are taken in fp32 or fp64, as the tensor is.
typedef struct {
    const char *name;
    // Whether calls are queued like kernels and can be recorded with them; else they have ended when they return.
    bool queued;
    int64_t (*sum)(Comm *, Tensor values);                  // in place: the same bits on all ranks
    int64_t (*reduce)(Comm *, Tensor flat, Shares shares);  // each share summed into its owner's; lost on the others
    int64_t (*gather)(Comm *, Tensor flat, Shares shares);  // each share from its owner to all
    void (*wait)(Comm *, int64_t mark);                     // what is queued later begins behind it
    void *(*take_memory)(Comm *, size_t bytes);             // device memory that calls are fastest with; as kernels'
    void (*return_memory)(Comm *, void *memory, size_t bytes);
    void (*close)(Comm *);
} CommRow;

struct Comm {
    const CommRow *row;
    const Kernels *kernels;
    Ranks *ranks; // NULL: one process
    int rank, size;
    void *own;    // the row's
};

Comm comm_none(const Kernels *kernels);
// By sockets between the ranks. False and a message (71) where they cannot be had.
bool comm_host(Comm *comm, const Kernels *kernels, Ranks *ranks, Errors *errors);
#ifdef THALWEG_NCCL
// Ranks with a GPU each, which the backend has opened.
bool comm_nccl(Comm *comm, const Kernels *kernels, Ranks *ranks, Errors *errors);
void comm_nccl_describe(Text *out); // "NCCL 2.28.9"
#endif
void comm_close(Comm *comm);

int64_t comm_sum(Comm *comm, Tensor values);
int64_t comm_reduce(Comm *comm, Tensor flat, Shares shares);
int64_t comm_gather(Comm *comm, Tensor flat, Shares shares);
void comm_wait(Comm *comm, int64_t mark);

// Bytes that `rank` of `size` sends in one such call, as a ring counts them.
double comm_sum_bytes(int64_t elements, DType dtype, int size);
double comm_reduce_bytes(Shares shares, DType dtype, int rank, int size);
double comm_gather_bytes(Shares shares, DType dtype, int rank, int size);
