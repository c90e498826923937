// Ranks and what they do together. Every operation takes Tensors, so that a count cannot be mistyped; with one rank
// they do nothing, so that callers never ask how many there are.
#pragma once

#include "runtime/tensor.h"

typedef struct Comm {
    const char *name;
    int rank;
    int size;
    void (*sum)(struct Comm *, Tensor values);            // in place, over all ranks
    void (*maximum)(struct Comm *, Tensor values);        // in place
    void (*broadcast)(struct Comm *, Tensor values, int root);
    void (*barrier)(struct Comm *);
    void (*close)(struct Comm *);
} Comm;

Comm comm_none(void); // one process
